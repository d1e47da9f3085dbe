"""The article's cheapest method: the two layers after the encoder train, the encoder is frozen."""

from lora_replication.training.methods import Method


class Head(Method):
    """The head alone."""

    words = "the two layers after the encoder"

    def trains(self, parameter: str, in_head: bool) -> bool:
        """What the head has."""
        return in_head
