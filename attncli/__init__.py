"""Attention you can run, prove, look at and measure."""

__version__ = "0.1.0"
