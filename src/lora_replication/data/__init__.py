"""Reviews from their sources to splits, tokens and batches."""
