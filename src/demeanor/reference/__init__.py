"""What only parity with the published programs needs; nothing of the product imports it."""
