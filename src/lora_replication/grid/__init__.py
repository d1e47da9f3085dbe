"""The search over LoRA configurations: its space, packs, sweep, executors and choice."""
