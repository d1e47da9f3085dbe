"""``python -m benchmarks.sameness STUDY``: is it one experiment? A study's runs in padded
arithmetic and the same runs in this project's.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.padded import PaddedClassifier, SameMasksClassifier
from benchmarks.results import Beginning, Comparison, Precision
from benchmarks.table import FOLDER, show
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.plan import method_run
from lora_replication.process import run_command
from lora_replication.record import Run
from lora_replication.studies import project_root, read_study
from lora_replication.training.checkpoints import Checkpoint
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, predict_logits
from lora_replication.training.loop import train
from lora_replication.workspace import Workspace

MASKS = {"other": PaddedClassifier, "same": SameMasksClassifier}


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for. Raises ``ParameterError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sameness", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("study", help="whose data is prepared, such as minilm-small")
    parser.add_argument("--methods", nargs="+", default=["lora_default"], help=" ")
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13, 14, 15], help=" ")
    parser.add_argument("--masks", choices=list(MASKS), default="other", help="torch's or ours")
    parser.add_argument("--precision", choices=get_args(Precision), help="in place of the study's")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of results")
    asked = parser.parse_args(words)
    root = project_root()
    study = read_study(asked.study, root)
    update = {"precision": asked.precision or study.train.precision}
    study = study.model_copy(update={"train": study.train.model_copy(update=update)})
    workspace = Workspace(study, root)
    begun = Beginning(
        study.train.device, shlex.join(["python", "-m", "benchmarks.sameness", *words])
    )
    runs = {name: [method_run(workspace, name, s) for s in asked.seeds] for name in asked.methods}
    for name, (run, *_) in runs.items():
        if run.settings.lora and run.settings.lora.dropout:
            dropout = run.settings.lora.dropout
            raise ParameterError(f"methods.{name}.lora.dropout is {dropout}; allowed here: 0")
    comparisons = []
    for name, own in runs.items():
        pairs = [
            [_correct(workspace, run, k) for k in (MASKS[asked.masks], Classifier)] for run in own
        ]
        padded, ours = zip(*pairs, strict=True)
        content = {"method": name, "seeds": asked.seeds, "reviews": len(workspace.tokens["test"])}
        comparisons.append(Comparison(**content, padded=padded, ours=ours))
    results = begun.results(
        "sameness",
        subject=study.study + ("-same-masks" if asked.masks == "same" else ""),
        title=f"{study.title}. {asked.masks.capitalize()} masks of dropout.",
        comparisons=comparisons,
    )
    show(results, asked.folder)


def _correct(workspace: Workspace, run: Run, kind: type[Classifier]) -> int:
    """How many test reviews the run predicts correctly at its best epoch by validation."""
    classifier, tokens = kind(workspace.encoder, run.settings, run.seed), workspace.tokens
    with tempfile.TemporaryDirectory() as folder:
        (training,) = train(
            classifier,
            run.seed,
            tokens["train"],
            tokens["val"],
            Checkpoint(Path(folder) / "state.safetensors", [run.key]),
            lambda _place, _epoch: None,
            run.label,
        )
    if training.diverged:
        raise IncompleteError(f"{run.label} diverged in {kind.__name__}; name other seeds")
    classifier.activate([0])
    return count(predict_logits(classifier, tokens["test"])[0], tokens["test"].labels).correct


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
