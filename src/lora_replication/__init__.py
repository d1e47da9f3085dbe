"""A replication of "Code LoRA from Scratch" that people can run, compare and cite."""

__version__ = "0.2.0"

URL = ""
"""Where the project is published; citations name it once it is set."""
