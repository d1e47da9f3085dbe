"""What a sweep's workers on other machines need: the tokens, their manifest and the encoder, carried as bytes and checked by sha256.

A machine keeps them in its user's cache folder, under the digest of their content: written once, by the first process that needs them,
and checked again by each process before it uses them. Machines that share a file system share that folder.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lora_replication.data.manifest import MANIFEST, tokens_file
from lora_replication.data.reviews import PARTS
from lora_replication.encoders import CONFIG, VOCABULARY, WEIGHTS, Encoder
from lora_replication.errors import DataError
from lora_replication.params import Study
from lora_replication.records import digest, file_digest, write_whole
from lora_replication.runs import Bench

ENCODER = "encoder"


@dataclass(frozen=True)
class Cargo:
    """A study's data and encoder on their way.

    Attributes:
        encoder: its ``folder`` is the sender's.
        contents: of each file, by its path at the receiver: sha256, and what stands for its bytes on the way (a Ray reference).
    """

    study: Study
    encoder: Encoder
    contents: dict[str, tuple[str, object]]

    @property
    def digest(self) -> str:
        """sha256 over the files' paths and sha256."""
        return digest({path: sha256 for path, (sha256, _) in self.contents.items()})


def load_cargo(bench: Bench, put: Callable[[bytes], object]) -> Cargo:
    """Read what the runs of ``bench`` need; ``put`` takes each file's bytes and gives what stands for them."""
    data = Path("data") / bench.study.study
    files = {data / MANIFEST: bench.data / MANIFEST}
    files |= {tokens_file(data, part): tokens_file(bench.data, part) for part in PARTS}
    files |= {Path(ENCODER) / name: bench.encoder.folder / name for name in (CONFIG, WEIGHTS, VOCABULARY)}
    contents = {}
    for path, file in files.items():
        content = file.read_bytes()
        contents[path.as_posix()] = (hashlib.sha256(content).hexdigest(), put(content))
    return Cargo(bench.study, bench.encoder, contents)


def unload_cargo(cargo: Cargo, get: Callable[[object], bytes]) -> Bench:
    """A bench on this machine's copy of ``cargo``; ``get`` gives the bytes of a file that is not there yet, or not whole.

    Raises:
        DataError: what came is not what was sent.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = cache / "lora-replication" / "cargo" / cargo.digest
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process of the machine writes, the others wait and find it done
        for path, (sha256, reference) in cargo.contents.items():
            file = root / path
            if file.is_file() and file_digest(file) == sha256:
                continue
            content = get(reference)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise DataError(f"{path} came with another sha256 than {sha256}, with which it was sent; run again")
            write_whole(file, content)
    bench = Bench(cargo.study, root)
    bench.encoder = replace(cargo.encoder, folder=root / ENCODER)
    return bench
