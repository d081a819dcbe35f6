"""The fast core: attention and its gradients on NumPy arrays."""
