"""See `mimray.evaluate.table_files`."""

from mimray.evaluate.table_files import Rows, table_files, write_files

__all__ = ["Rows", "table_files", "write_files"]
