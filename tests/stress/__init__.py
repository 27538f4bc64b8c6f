"""Slow trials by hand: not collected by pytest."""
