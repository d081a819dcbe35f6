"""The reference calculation in steps that can be replaced, and what a layer claims to be."""
