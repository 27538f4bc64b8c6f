"""The parts of MMML: encoders, cross-modality layers, heads, rules for the inputs, published checkpoints."""
