"""One run, for people who want neither a pipeline nor a study of their own."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from lora_replication.allowed import TARGETS
from lora_replication.errors import ParameterError
from lora_replication.files import only_writer, project_root
from lora_replication.grid.space import cell_name
from lora_replication.plan import checked_method, checked_seed, method_run
from lora_replication.reading import read_study
from lora_replication.record import Settings
from lora_replication.study import LoraParams, MethodParams
from lora_replication.workspace import Workspace

SINGLES = "singles"


def train_single(name: str, method: str | None, seed: int, switches: Mapping[str, Any]) -> None:
    """Train one run on the data and with the settings of the study ``name``; print its accuracies.

    Its record goes to ``singles/<study>/``, so that the study's own report stays what it is. Data
    that is missing, or was prepared for what the study asked before, is prepared first.

    Args:
        method: of the study; None for LoRA with ``switches``.
        switches: the article's own: rank, alpha, query, key, value, projection, mlp, head.

    Raises:
        ParameterError: unknown method, or switches that make no configuration.
        EnvironmentProblem: another process prepares the data or is at this run, or the device is
            missing.
        IncompleteError: memory ran out; the run is recorded as failed.
    """
    root = project_root()
    workspace = Workspace(read_study(name, root), root, SINGLES)
    checked_seed(seed)
    if method:
        checked_method(workspace.study, method)
    else:
        lora = _lora(switches)
    from lora_replication.tracking.mirror import open_mirror
    from lora_replication.training.run import perform_one

    prepare_if_needed(workspace)
    if method:
        run = method_run(workspace, method, seed)
    else:
        settings = Settings.of(workspace.study, MethodParams(trains="lora", lora=lora))
        run = workspace.run("method", cell_name(lora), settings, seed)
    record = perform_one(workspace, run, partial(open_mirror, workspace))
    print(f"{workspace.study.title}\n{run.label}: recorded in {workspace.folder(run)}")
    happened = record.happened
    if happened.status != "ok":
        step = f" from step {happened.first_bad_step:,}" if happened.first_bad_step else ""
        print(f"{happened.status}{step}: loss or weights are not finite, so no accuracies")
    parts = {"train": happened.train, "val": happened.val, "test": happened.test}
    for part, counted in parts.items():
        if counted:
            counts = f"({counted.correct:,} of {counted.reviews:,} reviews)"
            print(f"{part:5} accuracy {counted.fraction:7.2%}  {counts}")


def prepare_if_needed(workspace: Workspace) -> None:
    """Prepare the data unless it is what the study asks for. Raises ``EnvironmentProblem``."""
    from lora_replication.data.prepare import is_prepared, prepare
    from lora_replication.encoders import locate_encoder

    encoder = locate_encoder(workspace.study.model)
    if not is_prepared(workspace.study, encoder, workspace.data):
        with only_writer(workspace.state / "prepare.lock"):
            prepare(workspace.study, encoder, workspace.data)


def _lora(switches: Mapping[str, Any]) -> LoraParams:
    targets = tuple(target for target in TARGETS if switches[target])
    if not targets:
        names = ", ".join(f"--lora-{target}" for target in TARGETS)
        raise ParameterError(f"{names} are all off; allowed: at least one of them on")
    try:
        return LoraParams(rank=switches["rank"], alpha=switches["alpha"], targets=targets)
    except ValidationError as problems:
        lines = []
        for problem in problems.errors():
            field = str(problem["loc"][0])
            allowed = LoraParams.model_fields[field].description
            option = "--lora-r" if field == "rank" else f"--lora-{field}"
            lines.append(f"{option} is {problem['input']!r}; allowed: {allowed}")
        raise ParameterError("\n".join(lines)) from None
