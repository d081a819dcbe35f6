"""Reading tensors from files that may be anything, and writing them so that nothing is lost."""
