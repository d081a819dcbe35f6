"""Whose arrays a target takes and gives: one adapter for each framework."""
