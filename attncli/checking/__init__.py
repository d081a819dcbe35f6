"""Proving gradients right or wrong, and saying what is wrong with somebody's layer.

- `comparing`: how far tensors are apart, where, and in what pattern;
- `targets`: loading somebody's code, or taking our own, and calling it;
- `derivatives`: derivatives of forward, and the gradients of backward held against them;
- `diagnosing`: a layer held against the reference, and its mistake named.

Each imports only from those above it.
"""
