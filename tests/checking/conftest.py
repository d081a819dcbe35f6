"""Judging without naming."""

import pytest

from attncli.checking.diagnosing import examination


@pytest.fixture
def unnamed(monkeypatch):
    """Let no mistake be looked for in the catalogue, which takes longer than the verdict."""
    monkeypatch.setattr(examination, "diagnose", lambda *_: ())
