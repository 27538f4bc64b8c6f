"""A bundle at work: the predictor, the MLflow model, the registry."""
