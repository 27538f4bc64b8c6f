"""A trained model at work: batches, normalisation, prediction."""
