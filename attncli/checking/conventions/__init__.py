"""Which semantics lead from one file's inputs to its results: arranged, read, fitted, judged."""
