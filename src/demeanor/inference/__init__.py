"""A trained model as one object: raw recordings or features in, outputs, embeddings, answers out."""
