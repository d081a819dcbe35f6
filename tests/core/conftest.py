"""What large calculations do, done to small ones."""

import pytest

from attncli.core import direct


@pytest.fixture(autouse=True)
def _pieces(request, monkeypatch):
    if "pieces" in request.node.name:
        in_pieces(monkeypatch)


def in_pieces(monkeypatch, nbytes=1500):
    """Divide what is computed as a whole, for threads too, and try moderate scores first."""
    monkeypatch.setattr(direct, "PIECE", nbytes)
    monkeypatch.setattr(direct, "SMALL", 0)
    monkeypatch.setattr(direct, "WORTH_A_THREAD", 0)
