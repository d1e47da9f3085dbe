"""A run and its record: what was asked, what happened, where.

Records are the truth; reports and MLflow are made from them. A run's folder holds ``record.json``,
``predictions.parquet`` and ``adapter.safetensors``. The record is written last, so the files next
to it are complete.
"""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, computed_field, model_validator

from lora_replication import allowed
from lora_replication.allowed import Measured, Nudges, Part, Positive, Seed, Time, Whole
from lora_replication.errors import DataError, first_problem
from lora_replication.files import digest, file_digest, project_root, readable, write_whole
from lora_replication.study import (
    BuiltIn,
    LoraParams,
    MethodExtras,
    MethodParams,
    Study,
    method_in_words,
    shortest,
)

RECORD = "record.json"
PREDICTIONS = "predictions.parquet"
ADAPTER = "adapter.safetensors"

METHODS = Path(__file__).parent / "training" / "methods"

FOLDERS = {"cell": "grid", "runner_up": "grid_runners_up", "trial": "tuning", "tuned": "tuned"}
"""Of the runs of a role in their study's; the others are there themselves."""

Role = Literal["method", "cell", "winner", "runner_up", "trial", "tuned"]

SEARCHED = ("cell", "trial")
"""Roles of runs that a choice is made from, and that are cited for no accuracy."""

FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$")]
Status = Literal["ok", "diverged", "failed", "killed", "timeout"]

MOST_BYTES = 2**22
"""Of a record; one of a thousand epochs has 200,000."""

ADDED = {"predictions_sha256", "adapter_sha256", "cpu_features", "load"}
"""Fields that earlier records lack; they are written unless empty."""


class Settings(MethodExtras):
    """Everything asked of one training run but its seed.

    Attributes:
        encoder to device: as in ``study.ModelParams`` and ``study.TrainParams``.
        trains: the method: as in ``study.MethodParams``, or the name of its file.
        lora: the configuration of LoRA, or of a method that has the same settings.
        evaluate_train, evaluate_test: whether the best epoch is also evaluated on these reviews.
        stop_one_class: whether training ends after an epoch that predicts a single class.
        classes: their names, in the order of the logits.
    """

    encoder: str
    max_tokens: int
    epochs: int
    batch_size: int
    learning_rate: float
    precision: Literal["fp16-mixed", "bf16-mixed", "fp32"]
    device: Literal["cuda", "cpu"]
    trains: str
    lora: LoraParams | None = None
    evaluate_train: bool = True
    evaluate_test: bool = True
    stop_one_class: bool = False
    classes: allowed.Classes = Field(allowed.CLASSES, exclude_if=allowed.CLASSES.__eq__)

    @model_validator(mode="after")
    def _method_is_known(self) -> Self:
        """The name becomes that of a module."""
        if self.file is None and self.trains not in get_args(BuiltIn):
            raise ValueError(f"trains is {self.trains!r}; allowed: {', '.join(get_args(BuiltIn))}")
        return self

    @classmethod
    def of(cls, study: Study, method: MethodParams, **others: Any) -> Self:
        """The settings of ``method`` with all that it takes from ``study``; ``others`` as given."""
        values: dict[str, Any] = dict(study.train)
        values |= {"encoder": study.model.encoder, "max_tokens": study.model.max_tokens}
        values |= {name: getattr(method, name) for name in ("lora", *MethodExtras.model_fields)}
        values |= {"learning_rate": method.learning_rate or study.train.learning_rate}
        values |= {"trains": method.trains or Path(method.file or "").stem, **others}
        return cls(**values)

    @property
    def axes(self) -> str:
        """What a sweep tries: ``lr0.0001``, for LoRA ``lr0.0001-r8-a16``; fit to be a folder."""
        more = f"-r{self.lora.rank}-a{shortest(self.lora.alpha)}" if self.lora else ""
        return f"lr{shortest(self.learning_rate)}{more}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values without those at their defaults, so that a new option changes no old key."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Run(Part):
    """A run that is asked for: all that decides its result, and where it belongs.

    Attributes:
        study, title: the study's name, and how tables and pages show it.
        role: "method", "cell" (a grid configuration), "winner" or "runner_up" (the grid's winner,
            or a configuration next to it, on a fresh seed), "trial" (a setting that a method's
            sweep tries) or "tuned" (a method at the setting that its sweep chose).
        name: the method's, the configuration's (``r8-a16-query-value``), or ``grid_winner``.
        seed: names every random draw, together with its purpose.
        nudge: 0, or the number of a repeat that starts from almost the same weights, see
            ``training.randomness.nudge``: how far it ends from the others is chaos, not the method.
        data: sha256 of the prepared data, see ``Manifest.digest``.
        weights: sha256 of the encoder's weights file.
        results: version of the code's results, see ``training.RESULTS``.
        key: sha256 of the settings (of a method's file its sha256, not its place) and the last five
            (the nudge unless 0). Equal keys have equal results, on processors of one class.
    """

    study: FolderName
    title: str
    role: Role
    name: FolderName
    settings: Settings
    seed: Seed
    nudge: Nudges = 0
    data: str
    weights: str
    results: int

    @model_validator(mode="wrap")
    @classmethod
    def _check_key(cls, content: Any, validate: Callable[[Any], Self]) -> Self:
        """A stored key must be the one that is computed."""
        if not isinstance(content, dict) or "key" not in content:
            return validate(content)
        run = validate({name: value for name, value in content.items() if name != "key"})
        if run.key != content["key"]:
            raise ValueError("what was asked does not have this key, so the record was altered")
        return run

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def key(self) -> str:
        """See ``Attributes``."""
        content = self.model_dump(include={"seed", "data", "weights", "results"})
        nudge = {"nudge": self.nudge} if self.nudge else {}
        settings = {k: v for k, v in self.settings.as_dict().items() if k != "file"}
        return digest(content | nudge | {"settings": settings})

    @property
    def label(self) -> str:
        """For people, in the study's own words."""
        names = {"trial": f"{self.name} {self.settings.axes}", "tuned": f"tuned {self.name}"}
        return f"{names.get(self.role, self.name)} {self._repeat}"

    @property
    def words(self) -> str:
        """``LoRA default, seed 3``; ``Rank 8, alpha 16, query + value, seed 1``."""
        lora = self.settings.lora
        is_named_by_lora = self.role in ("cell", "runner_up")
        name = lora.words if lora and is_named_by_lora else method_in_words(self.name)
        is_swept = self.role in ("trial", "tuned")
        rate = f" at rate {self.settings.learning_rate:g}" if is_swept else ""
        return f"{name[0].upper()}{name[1:]}{rate}, {self._repeat}"

    @property
    def _repeat(self) -> str:
        return f"seed {self.seed}" + (f" nudge {self.nudge}" if self.nudge else "")

    @property
    def place(self) -> Path:
        """Its folder in its study's: ``<method>/seed-<k>``, ``grid/<configuration>/seed-<k>``,
        ``tuning/<method>/<axes>/seed-<k>``; a nudged one ends in ``-nudge-<i>``.
        """
        axes = self.settings.axes if self.role == "trial" else ""
        return Path(FOLDERS.get(self.role, ""), self.name, axes, self._repeat.replace(" ", "-"))


def method_words(asked: MethodParams | Settings) -> str:
    """What the method calls itself: ``words`` in its file, of which nothing is run. Raises
    ``DataError`` where there is no such file any more.
    """
    file = project_root() / asked.file if asked.file else METHODS / f"{asked.trains}.py"
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError) as problem:
        raise DataError(
            f"{file}: the method's file can't be read ({problem}); put it back"
        ) from None
    assigned = [node for node in nodes if isinstance(node, ast.Assign)]
    found = [a.value for a in assigned if ast.unparse(a.targets[0]) == "words"]
    return str(ast.literal_eval(found[0])) if found else Path(asked.file or "").stem


class Count(Part):
    """An accuracy as counted: ``correct`` of ``reviews``; ``ones`` were predicted 1 (positive), or
    of more than two classes, the one that was predicted most.
    """

    correct: Whole
    reviews: Positive
    ones: Whole

    @model_validator(mode="after")
    def _are_of_the_reviews(self) -> Self:
        if max(self.correct, self.ones) > self.reviews:
            raise ValueError(f"there are only {self.reviews} reviews")
        return self

    @property
    def fraction(self) -> float:
        """Accuracy, 0 to 1."""
        return self.correct / self.reviews

    @property
    def one_class(self) -> bool:
        """Whether a single class was predicted."""
        return self.ones in (0, self.reviews)


class Epoch(Part):
    """One pass over the training reviews, with mean cross-entropy in nats.

    ``train_*`` are with dropout, on the way; ``val_*`` without, at its end. Losses that are not
    finite are None, and so are the accuracies of the epoch that diverged.
    """

    epoch: Positive
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: Measured


class Happened(Part):
    """The outcome of a run.

    Attributes:
        status: diverged means loss or weights not finite; ``error`` says why it failed, was killed
            or timed out, at which ``attempt``, from 1.
        first_bad_step: the first training step with a loss that is not finite, from 1 over all
            epochs. A run in fp16 can have one and be ok: its scaler skips such steps.
        one_class: the best epoch predicts a single class on the test reviews, or on the validation
            reviews where there is no test.
        best_epoch: the first with the highest validation accuracy; ``epochs`` count from 1.
        stopped_after: the epoch after which training ended because a single class was predicted.
        train, val, test: counts at the best epoch; None if not evaluated or not ok.
        notes: such as a rank above a layer's smaller side.
        pack: how many configurations trained together, this one included.
        training_seconds, evaluation_seconds: wall time, over all parts of an interrupted run; in a
            pack, an equal share.
        tokens_per_second: real tokens (no padding) trained per second of training.
        peak_memory_bytes: of the run, or its pack: resident in the process, or allocated on CUDA.
        predictions_sha256, adapter_sha256: of the files next to the record, see ``checked_file``.
    """

    status: Status
    attempt: Positive = 1
    error: str | None = None
    first_bad_step: Positive | None = None
    one_class: bool = False
    epochs: list[Epoch] = Field(default_factory=list)
    best_epoch: Positive | None = None
    stopped_after: Positive | None = None
    train: Count | None = None
    val: Count | None = None
    test: Count | None = None
    trainable_parameters: Whole | None = None
    total_parameters: Whole | None = None
    notes: list[str] = Field(default_factory=list)
    pack: Positive = 1
    training_seconds: Measured | None = None
    evaluation_seconds: Measured | None = None
    tokens_per_second: Measured | None = None
    peak_memory_bytes: Whole | None = None
    predictions_sha256: str | None = None
    adapter_sha256: str | None = None

    @model_validator(mode="after")
    def _best_epoch_is_one(self) -> Self:
        if self.best_epoch and self.best_epoch > len(self.epochs):
            raise ValueError(f"best_epoch is {self.best_epoch} of {len(self.epochs)} epochs")
        return self

    @property
    def is_done(self) -> bool:
        """Whether there is a result; failed, killed and timed-out runs are tried again."""
        return self.status in ("ok", "diverged")

    @property
    def seconds(self) -> float | None:
        """Of training and evaluation; None where neither was measured."""
        spent = (self.training_seconds, self.evaluation_seconds)
        return None if spent == (None, None) else sum(part or 0.0 for part in spent)


class Where(Part):
    """The machine and the software.

    Attributes:
        git_commit: of the project, None outside git; ``git_dirty``: whether tracked files differed.
        cpu, gpu: model names; ``threads``: of torch; ``platform``: operating system.
        cpu_features: instruction sets by which torch chooses its arithmetic; where they differ,
            equal runs can differ by rounding.
        load: processes that wanted a CPU, this run's threads included, as a mean over the last 15
            minutes; above ``cores`` other work slowed it down.
        cuda_paths: the settings of ``execution.cuda`` that were on.
        started, finished: UTC, ISO 8601.
        data_source, data_revision, encoder_revision: as the manifest names them.
    """

    git_commit: str | None
    git_dirty: bool | None
    versions: dict[str, str]
    cpu: str
    cpu_features: list[str] = Field(default_factory=list)
    cores: int
    load: float | None = None
    memory_bytes: int
    gpu: str | None
    cuda_paths: list[str] = Field(default_factory=list, exclude_if=[].__eq__)
    threads: int
    platform: str
    started: Time
    finished: Time
    data_source: str
    data_revision: str | None
    encoder_revision: str | None


class Record(Part):
    """One run, whole."""

    schema_version: Literal[2] = 2
    asked: Run
    happened: Happened
    where: Where

    @property
    def is_done(self) -> bool:
        """See ``Happened.is_done``."""
        return self.happened.is_done

    def to_json(self) -> bytes:
        """The content of ``record.json``."""
        content = self.model_dump(mode="json")
        content["asked"]["settings"] = self.asked.settings.as_dict()
        if not self.asked.nudge:
            del content["asked"]["nudge"]
        for part in ("happened", "where"):
            content[part] = {k: v for k, v in content[part].items() if v or k not in ADDED}
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes, file: Path) -> Self:
        """Read a record. Raises ``DataError``, which names ``file``."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as problem:
            key, value, wrong = first_problem(problem)
            what = f"not a record of this project ({key}: {wrong})"
            if key == "schema_version":
                what = f"a record of schema {value}, this version reads 2"
            raise DataError(f"{file}: {what}; delete it to train the run again") from None


def write_record(record: Record, folder: Path) -> None:
    """Write ``record.json`` into ``folder``, whole or not at all."""
    write_whole(folder / RECORD, record.to_json())


def read_record(folder: Path) -> Record | None:
    """The record in ``folder``, None if there is none. Raises ``DataError``."""
    file = folder / RECORD
    try:
        size = file.stat().st_size
        if not file.is_dir() and (size > MOST_BYTES or not file.is_file()):  # a pipe never ends
            raise DataError(
                f"{file}: no file of at most {MOST_BYTES:,} bytes ({size:,}); "
                "remove it to train the run again"
            )
        return Record.from_json(file.read_bytes(), file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        what = f"can't be read ({problem.strerror})"
        raise DataError(f"{file}: {what}; remove it to train the run again") from None


def read_records(folder: Path) -> list[tuple[Path, Record]]:
    """Every record below ``folder`` with its own folder, in the order of the folders' names."""
    folders = sorted(file.parent for file in folder.rglob(RECORD))
    return [(found, record) for found in folders if (record := read_record(found))]


def checked_file(folder: Path, record: Record, name: str) -> Path:
    """``PREDICTIONS`` or ``ADAPTER`` in ``folder``; ``DataError`` unless as ``record`` says.

    Where an early record says nothing, a link is refused: it may lead to anybody's file.
    """
    file, happened = folder / name, record.happened
    expected = happened.predictions_sha256 if name == PREDICTIONS else happened.adapter_sha256
    if file.exists() and (not file.is_file() or (expected is None and file.is_symlink())):
        raise DataError(f"{file}: is no plain file; restore it, or train it again")
    with readable(file, "train it again"):
        found = file_digest(file)
    if expected not in (None, found):
        raise DataError(f"{file}: altered; its record says sha256 {expected}, it has {found}")
    return file
