"""Hand-made CPU kernels: each module opens with the plain equation that it computes."""
