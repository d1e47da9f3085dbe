"""What workers need, sent as bytes: manifest, tokens and encoder, in one folder at the receiver."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lora_replication.data.manifest import MANIFEST, tokens_file
from lora_replication.data.reviews import PARTS
from lora_replication.encoders import CONFIG, VOCABULARY, WEIGHTS, Encoder
from lora_replication.errors import DataError
from lora_replication.files import digest, expanded, file_digest, write_whole
from lora_replication.study import Study
from lora_replication.workspace import Workspace


@dataclass(frozen=True)
class Inputs:
    """A study's data and encoder on their way.

    Attributes:
        encoder: its ``folder`` is the sender's.
        digests: sha256 of each file, by its name.
        contents: what the files' bytes, by name, are fetched by.
    """

    study: Study
    encoder: Encoder
    digests: dict[str, str]
    contents: Any


def send(workspace: Workspace, put: Callable[[dict[str, bytes]], Any]) -> Inputs:
    """Hand the files to ``put``, which returns what they are fetched by."""
    encoder, data = workspace.encoder, workspace.data
    files = [data / MANIFEST, *(tokens_file(data, part) for part in PARTS)]
    files += [encoder.folder / name for name in (CONFIG, WEIGHTS, VOCABULARY)]
    digests = {file.name: file_digest(file) for file in files}
    contents = put({file.name: file.read_bytes() for file in files})
    return Inputs(workspace.study, encoder, digests, contents)


def receive(inputs: Inputs, fetch: Callable[[Any], dict[str, bytes]]) -> Workspace:
    """A workspace on this machine's copy, in the user's cache folder; fetched if need be.

    Raises:
        DataError: what was fetched is not what was sent.
    """
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = cache / "lora-replication" / "inputs" / digest(inputs.digests)
    folder.mkdir(parents=True, exist_ok=True)

    def is_whole(name: str) -> bool:
        return (folder / name).is_file() and file_digest(folder / name) == inputs.digests[name]

    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process writes, the others wait and find it done
        if not all(map(is_whole, inputs.digests)):
            for name, content in fetch(inputs.contents).items():
                write_whole(folder / name, content)
        if altered := [name for name in inputs.digests if not is_whole(name)]:
            raise DataError(f"{folder / altered[0]}: came with another sha256 than sent; run again")
    workspace = Workspace(inputs.study, folder)
    workspace.data, workspace.encoder = folder, replace(inputs.encoder, folder=folder)
    return workspace
