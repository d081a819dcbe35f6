"""The version: known to who writes it into a file, without what else the package exports."""

__version__ = "0.1.0"
