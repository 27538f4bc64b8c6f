"""One loop, batching, checkpoints, seeds and processes."""
