"""Figures as they are when they are saved."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def saved(monkeypatch):
    """The figures that were saved, with all that stands in them; none of them is rendered."""
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: found.append(figure))
    return found
