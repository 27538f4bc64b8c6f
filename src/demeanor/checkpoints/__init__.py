"""Foreign checkpoints as bundles."""
