"""Search of settings on validation."""
