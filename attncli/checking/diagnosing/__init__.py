"""A layer held against the reference, and its mistake or its convention named."""
