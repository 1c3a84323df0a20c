"""MLflow's tables in PostgreSQL, read as they are."""

from __future__ import annotations

from typing import Any

from tests.services.postgres import Postgres
from tests.train.tracked import Store


class PostgresStore(Store):
    """As the sqlite one, for the same questions."""

    def __init__(self, database: Postgres) -> None:
        self.database = database

    def _ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        # rows of one request arrive in any order
        asked = question.replace("?", "%s").replace("order by rowid", "order by step")
        rows = self.database.ask(asked, values)
        assert rows is not None, "PostgreSQL does not answer"
        return rows

    def text(self) -> str:
        """Everything that stands in a table of MLflow's, its users' among them."""
        tables = "select tablename from pg_tables where schemaname = 'public'"
        return "\n".join(str(self._ask(f'select * from "{name}"')) for (name,) in self._ask(tables))
