"""Learning representations without labels."""
