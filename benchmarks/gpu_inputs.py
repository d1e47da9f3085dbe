"""``python -m benchmarks.gpu_inputs FOLDER``: what ``benchmarks.gpu`` needs, in pieces that travel.

``--join INTO`` puts them together where they arrive, with numpy and safetensors alone: pydantic and
ruamel.yaml may be among what they carry.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import load_file, save_file

PIECES = "inputs.sha256"
"""Lists the pieces with their sha256, as ``sha256sum --check`` reads it."""

SHORT = "short-{}.safetensors"
"""A part's tokens with ids in 16 bits: half the size, and the same tokens."""


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_inputs")
    parser.add_argument("folder", type=Path, help="of the pieces; wheels/*.whl in it are carried")
    parser.add_argument("--study", default="minilm-gpu", help="whose data is prepared")
    parser.add_argument("--pieces-mib", type=int, default=60, help="pieces are smaller than this")
    parser.add_argument("--join", type=Path, help="put the pieces together here")
    asked = parser.parse_args(words)
    if asked.join:
        join(asked.folder, asked.join)
    else:
        pack(asked.folder, asked.study, asked.pieces_mib)


def pack(folder: Path, name: str, pieces_mib: int) -> None:
    """Write the pieces and their list.

    Raises:
        DataError: the study's data or encoder is missing or not what its manifest says.
        ParameterError: there is no such study, or its encoder is the hub's.
    """
    from benchmarks.gpu_runs import ENCODER, PACKAGES
    from lora_replication.data.manifest import MANIFEST
    from lora_replication.encoders import CONFIG, VOCABULARY, WEIGHTS
    from lora_replication.errors import ParameterError
    from lora_replication.files import project_root
    from lora_replication.reading import PARAMS, read_study, study_folder
    from lora_replication.workspace import Workspace

    root = project_root()
    workspace = Workspace(read_study(name, root), root)
    encoder = workspace.encoder
    if encoder.name not in ("minilm", "folder"):
        raise ParameterError(f"model.encoder is {encoder.name!r}; allowed here: minilm, folder")
    package = Path(PACKAGES) / encoder.folder.parent.name / "model"
    place = Path(ENCODER) if encoder.name == "folder" else package
    data = Path("data") / name
    files = {place / each: encoder.folder / each for each in (CONFIG, WEIGHTS, VOCABULARY)}
    files |= {Path(PARAMS): study_folder(name, root) / PARAMS}
    files |= {data / MANIFEST: workspace.data / MANIFEST}
    files |= {Path("wheels") / each.name: each for each in sorted(folder.glob("wheels/*.whl"))}
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as scratch:
        for part, tokens in workspace.tokens.items():
            short = Path(scratch) / SHORT.format(part)
            ids = tokens.ids.astype(np.uint16)
            if not np.array_equal(ids, tokens.ids):
                raise ParameterError(f"{name}: token ids above 65535 do not fit 16 bits")
            save_file({"ids": ids, "starts": tokens.starts, "labels": tokens.labels}, short)
            files[data / short.name] = short
        whole = Path(scratch) / "inputs.tar"
        with tarfile.open(whole, "w") as archive:
            for target, file in files.items():
                archive.add(file.resolve(), target)
        _cut(whole, folder, pieces_mib * 2**20 - 1)


def _cut(whole: Path, folder: Path, size: int) -> None:
    lines = []
    with whole.open("rb") as stream:
        while content := stream.read(size):
            piece = folder / f"inputs.tar.{len(lines):03}"
            piece.write_bytes(content)
            lines.append(f"{hashlib.sha256(content).hexdigest()}  {piece.name}\n")
            print(f"{piece}: {len(content):,} bytes")
    (folder / PIECES).write_text("".join(lines), "ascii")


def join(folder: Path, into: Path) -> None:
    """Put the pieces together in ``into``, an empty folder's place.

    Raises:
        SystemExit: a piece is missing or altered. Each run checks its tokens by the manifest.
    """
    partial = into.with_name(f"{into.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    whole = partial / "inputs.tar"
    with whole.open("wb") as stream:
        for line in (folder / PIECES).read_text("ascii").splitlines():
            digest, name = line.split()
            file = folder / name
            content = file.read_bytes() if file.is_file() else b""
            if hashlib.sha256(content).hexdigest() != digest:
                raise SystemExit(f"{file}: missing or altered; copy it again")
            stream.write(content)
    with tarfile.open(whole) as archive:
        archive.extractall(partial, filter="data")
    whole.unlink()
    for manifest in partial.glob("data/*/manifest.json"):
        for part in json.loads(manifest.read_text("utf-8"))["parts"]:
            short = manifest.with_name(SHORT.format(part))
            tokens = load_file(short)
            tokens["ids"] = tokens["ids"].astype(np.int32)
            save_file(tokens, manifest.with_name(f"tokens-{part}.safetensors"))
            short.unlink()
    shutil.rmtree(into, ignore_errors=True)
    partial.rename(into)
    print(f"{into}: joined")


if __name__ == "__main__":
    main(sys.argv[1:])
