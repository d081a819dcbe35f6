"""What large calculations do, done to small ones."""

import pytest

from attncli.core import direct, mkl, products


@pytest.fixture(autouse=True)
def _pieces(request, monkeypatch):
    if "pieces" in request.node.name:
        in_pieces(monkeypatch)


def in_pieces(monkeypatch, nbytes=1500):
    """Divide what is computed as a whole, for threads too, and try moderate scores first."""
    monkeypatch.setattr(direct, "PIECE", nbytes)
    monkeypatch.setattr(direct, "SMALL", 0)
    monkeypatch.setattr(direct, "WORTH_A_THREAD", 0)


@pytest.fixture
def by_mkl(monkeypatch):
    """Let Intel's MKL multiply, small matrices too."""
    if mkl.find() is None:
        pytest.skip("MKL is not installed")
    monkeypatch.setattr(mkl, "WORTH", 0)
    monkeypatch.setattr(products, "LARGE", 0)
    products.choose("mkl")
    yield
    products.choose("numpy")
