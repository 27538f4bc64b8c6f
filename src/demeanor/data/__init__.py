"""The nouns: utterances, ragged streams, provenance, examples, batches, tasks and bundles."""
