"""A translation model that learns in seconds: what ``attn demo`` trains.

`phrases` has the language, `translator` the model, of the book's parts, and its training.
"""
