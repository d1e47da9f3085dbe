"""A replication of "Code LoRA from Scratch" that people can run, compare and cite."""

__version__ = "0.1.0"
