"""One file per kind of extractor: media or text in, ragged features out."""
