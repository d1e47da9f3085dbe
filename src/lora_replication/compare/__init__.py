"""Two methods, from wherever their test predictions are, and which of them is better."""
