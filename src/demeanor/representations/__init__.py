"""Models that embed instead of predicting, and what they read."""
