"""What is to be computed, on what: drawn or read."""
