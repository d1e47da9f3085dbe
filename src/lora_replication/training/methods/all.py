"""Full fine-tuning."""

from lora_replication.training.methods import Method


class All(Method):
    """Everything."""

    words = "all layers"

    def trains(self, parameter: str, in_head: bool) -> bool:
        """Everything."""
        return True
