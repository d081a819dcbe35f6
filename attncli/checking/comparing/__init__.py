"""How far tensors are apart, where, and what pattern that has."""
