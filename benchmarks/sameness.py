"""``python -m benchmarks.sameness WORKSPACE``: is it one experiment? Runs in padded arithmetic beside the same runs in this project's."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.results import Beginning, Precision, SamenessResults
from benchmarks.table import show
from lora_replication.checkpoints import Checkpoint
from lora_replication.classifier import Classifier, autocast_for
from lora_replication.data.batches import Batch
from lora_replication.encoders import Encoder
from lora_replication.evaluation import count, predict_logits
from lora_replication.jobs import Job, method_job
from lora_replication.methods import RunSettings
from lora_replication.params import load_study
from lora_replication.processes import run_command
from lora_replication.randomness import named_seed
from lora_replication.runs import Bench
from lora_replication.training import train

HERE = Path(__file__).resolve().parent


class PaddedClassifier(Classifier):
    """Computes as the article's loop does: every review padded to the longest, the forward pass and the dropout of ``transformers``.

    Head, A and the order of the reviews are drawn as ever; dropout comes from torch's own stream, so its masks are others.
    """

    def __init__(self, encoder: Encoder, settings: RunSettings, seed: int) -> None:
        super().__init__(encoder, settings, seed)
        self.seed = seed

    def start_epoch(self, epoch: int) -> None:
        """Switch dropout on."""
        super().start_epoch(epoch)
        torch.manual_seed(named_seed(self.seed, "padded", epoch))
        self.models[0].train()

    def stop_dropout(self) -> None:
        """Switch dropout off."""
        super().stop_dropout()
        self.models[0].eval()

    def parts(self, batch: Batch) -> Iterator[Tensor]:
        """As in ``Classifier``."""
        reviews = torch.tensor_split(batch.ids, batch.first[1:].cpu())
        ids = pad_sequence(list(reviews), batch_first=True)
        mask = pad_sequence([torch.ones_like(review) for review in reviews], batch_first=True)
        with autocast_for(self.settings, self.device):
            logits = self.models[0](input_ids=ids, attention_mask=mask).logits.float()
        yield logits[None]


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sameness", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("workspace", type=Path, help="where a study's data is prepared, such as build/minilm-small")
    parser.add_argument("--methods", nargs="+", default=["lora_default"], help=" ")
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13, 14, 15], help=" ")
    parser.add_argument("--precision", choices=get_args(Precision), help="in place of the study's own, on a machine that has not got that")
    parser.add_argument("--folder", type=Path, default=HERE, help="has README.md; results/ is written into it")
    asked = parser.parse_args(words)
    study = load_study(asked.workspace / "params.yaml")
    bench = Bench(study, asked.workspace)
    beginning = Beginning(study.train.device, shlex.join(["python", "-m", "benchmarks.sameness", *words]))
    padded: dict[str, list[int]] = {method: [] for method in asked.methods}
    ours: dict[str, list[int]] = {method: [] for method in asked.methods}
    for method in asked.methods:
        for seed in asked.seeds:
            job = method_job(study, method, seed)
            job = replace(job, settings=replace(job.settings, precision=asked.precision or job.settings.precision))
            padded[method].append(_correct(bench, job, PaddedClassifier))
            ours[method].append(_correct(bench, job, Classifier))
            told = f"{padded[method][-1]} padded, {ours[method][-1]} here"
            beginning.tell(f"{job.label}: of {len(bench.tokens['test'])} right {told}")
    results = SamenessResults(
        **beginning.origin(),
        study=study.study,
        title=study.title,
        seeds=tuple(asked.seeds),
        reviews=len(bench.tokens["test"]),
        padded={method: tuple(values) for method, values in padded.items()},
        ours={method: tuple(values) for method, values in ours.items()},
    )
    show(results, asked.folder)


def _correct(bench: Bench, job: Job, kind: type[Classifier]) -> int:
    """How many test reviews the run answers rightly at its best epoch by validation."""
    classifier = kind(bench.encoder, job.settings, job.seed)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "state.safetensors", [job.label])
        train(classifier, job.seed, bench.tokens["train"], bench.tokens["val"], checkpoint, lambda _place, _epoch: None, job.label)
    classifier.activate([0])
    return count(predict_logits(classifier, bench.tokens["test"])[0], bench.tokens["test"].labels).correct


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
