"""Measuring implementations of attention side by side, in interleaved runs."""
