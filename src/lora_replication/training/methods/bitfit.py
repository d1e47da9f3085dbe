"""BitFit, Ben Zaken et al. (2022), section 3: every bias of the classifier trains, and nothing else
but the head with ``train_head``, as in that paper.
"""

from lora_replication.training.methods import Method


class BitFit(Method):
    """The biases of linear layers and norms, the head's two included."""

    words = "all biases (BitFit)"

    def trains(self, parameter: str, in_head: bool) -> bool:
        """A bias."""
        return parameter.endswith(".bias")
