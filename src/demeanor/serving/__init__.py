"""Models for others: the MLflow model, its server, the registry."""
