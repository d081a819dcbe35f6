"""From a file to the weights that are looked at: find, choose, cut, combine."""
