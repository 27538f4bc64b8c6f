"""Parts that several systems are built of."""
