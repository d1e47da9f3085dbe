"""The search over LoRA configurations: its space, its ledger, its sweep."""
