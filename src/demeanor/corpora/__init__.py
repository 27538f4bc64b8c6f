"""One file per corpus format: raw layout in, utterances and streams out."""
