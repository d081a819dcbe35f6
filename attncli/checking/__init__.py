"""Proving gradients right or wrong."""
