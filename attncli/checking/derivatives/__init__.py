"""Derivatives of forward alone, and the gradients of backward held against them."""
