"""Somebody's own code: loading it, calling it, and what its memory holds unfilled."""
