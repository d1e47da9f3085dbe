"""``python -m benchmarks.sameness STUDY``: is it one experiment? A study's runs in padded
arithmetic and the same runs in this project's, under the same masks of dropout.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.padded import SameMasksClassifier
from benchmarks.results import Beginning, Comparison, Precision
from benchmarks.table import FOLDER, show
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.plan import method_run
from lora_replication.process import run_command
from lora_replication.reading import project_root, read_study
from lora_replication.record import Run
from lora_replication.training.checkpoints import Checkpoint
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, predict_logits
from lora_replication.training.loop import train
from lora_replication.workspace import Workspace


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for. Raises ``ParameterError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sameness", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("study", help="whose data is prepared, such as minilm-small")
    parser.add_argument("--methods", nargs="+", default=["lora_default"], help=" ")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4], help=" ")
    parser.add_argument("--precision", choices=get_args(Precision), help="in place of the study's")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of results")
    asked = parser.parse_args(words)
    root = project_root()
    study = read_study(asked.study, root)
    update = {"precision": asked.precision or study.train.precision}
    study = study.model_copy(update={"train": study.train.model_copy(update=update)})
    workspace = Workspace(study, root)
    command = shlex.join(["python", "-m", "benchmarks.sameness", *words])
    begun = Beginning(study.train.device, command)
    runs = {name: [method_run(workspace, name, s) for s in asked.seeds] for name in asked.methods}
    for name, (run, *_) in runs.items():
        if run.settings.lora and run.settings.lora.dropout:
            dropout = run.settings.lora.dropout
            raise ParameterError(f"methods.{name}.lora.dropout is {dropout}; allowed here: 0")
    comparisons = [
        Comparison(
            method=name,
            seeds=asked.seeds,
            reviews=len(workspace.tokens["test"]),
            padded=[_correct(workspace, run, SameMasksClassifier) for run in own],
            ours=[_correct(workspace, run, Classifier) for run in own],
        )
        for name, own in runs.items()
    ]
    title = f"{study.title}. Same masks of dropout."
    subject = f"{study.study}-same-masks"
    content = {"subject": subject, "title": title, "comparisons": comparisons}
    show(begun.results("sameness", **content), asked.folder)


def _correct(workspace: Workspace, run: Run, kind: type[Classifier]) -> int:
    """How many test reviews the run predicts correctly at its best epoch by validation."""
    classifier, tokens = kind(workspace.encoder, run.settings, run.seed), workspace.tokens
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "state.safetensors", [run.key])
        parts = tokens["train"], tokens["val"]
        (training,) = train(classifier, run.seed, *parts, checkpoint, lambda *_: None, run.label)
    if training.diverged:
        raise IncompleteError(f"{run.label} diverged in {kind.__name__}; name other seeds")
    classifier.activate([0])
    return count(predict_logits(classifier, tokens["test"])[0], tokens["test"].labels).correct


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
