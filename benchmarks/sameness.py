"""``python -m benchmarks.sameness WORKSPACE``: is it one experiment? Runs in padded arithmetic
beside the same runs in this project's.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from lora_replication.jobs import Job, method_job

from benchmarks.padded import PaddedClassifier, SameMasksClassifier
from benchmarks.results import Beginning, Masks, Precision, SamenessResults
from benchmarks.table import show
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.process import run_command
from lora_replication.reading import load_study
from lora_replication.training.checkpoints import Checkpoint
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, predict_logits
from lora_replication.training.loop import train
from lora_replication.training.run import Bench

HERE = Path(__file__).resolve().parent
CLASSIFIERS: dict[Masks, type[PaddedClassifier]] = {
    "other": PaddedClassifier,
    "same": SameMasksClassifier,
}


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for. Raises ``ParameterError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sameness", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "workspace", type=Path, help="where a study's data is prepared, such as build/minilm-small"
    )
    parser.add_argument("--methods", nargs="+", default=["lora_default"], help=" ")
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13, 14, 15], help=" ")
    parser.add_argument(
        "--masks",
        choices=get_args(Masks),
        default="other",
        help="of dropout in padded arithmetic: torch's or ours",
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="in place of the study's own, on a machine that has not got that",
    )
    parser.add_argument(
        "--folder", type=Path, default=HERE, help="has README.md; results/ is written into it"
    )
    asked = parser.parse_args(words)
    study = load_study(asked.workspace / "params.yaml")
    bench = Bench(study, asked.workspace)
    beginning = Beginning(
        study.train.device, shlex.join(["python", "-m", "benchmarks.sameness", *words])
    )
    padded: dict[str, list[int]] = {method: [] for method in asked.methods}
    ours: dict[str, list[int]] = {method: [] for method in asked.methods}
    jobs = [method_job(study, method, seed) for method in asked.methods for seed in asked.seeds]
    for job in jobs:
        if job.settings.lora and job.settings.lora.dropout:
            raise ParameterError(
                f"methods.{job.name}.lora.dropout is {job.settings.lora.dropout}; allowed here: 0"
            )
    for job in jobs:
        own = replace(
            job, settings=replace(job.settings, precision=asked.precision or job.settings.precision)
        )
        padded[job.name].append(_correct(bench, own, CLASSIFIERS[asked.masks]))
        ours[job.name].append(_correct(bench, own, Classifier))
        told = f"{padded[job.name][-1]} padded, {ours[job.name][-1]} here"
        beginning.tell(f"{job.label}: of {len(bench.tokens['test'])} right {told}")
    results = SamenessResults(
        **beginning.origin(),
        study=study.study,
        title=study.title,
        masks=asked.masks,
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
        (training,) = train(
            classifier,
            job.seed,
            bench.tokens["train"],
            bench.tokens["val"],
            checkpoint,
            lambda _place, _epoch: None,
            job.label,
        )
    if training.diverged:
        raise IncompleteError(
            f"{job.label} diverged in {kind.__name__}, so there is nothing to compare; name other seeds"
        )
    classifier.activate([0])
    return count(
        predict_logits(classifier, bench.tokens["test"])[0], bench.tokens["test"].labels
    ).correct


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
