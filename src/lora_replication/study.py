"""What a study holds: its parts, their keys, and what is allowed for each."""

import math
from operator import not_
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lora_replication import allowed
from lora_replication.allowed import TARGETS, Part, Several, whole
from lora_replication.pins import ENCODERS, FOLDER, HUB, HUB_FORM, hub_file

ARTICLE_REVIEWS = {"train": 35_000, "val": 5_000, "test": 10_000}
"""Sizes of the article's split of the 50,000 labelled reviews."""

RESERVED = {"grid", "grid_winner", "grid_runners_up", "tuning", "tuned"}
"""Names in a study's folder of runs that are no method's."""

MOST_CELLS = 100_000
"""Configurations of a grid; the article's has 576."""

WITH_LORA = ("lora", "dora", "pissa", "vera")
"""Those with a rank and an alpha."""

BuiltIn = Literal["head", "lora", "all", "bitfit", "dora", "ia3", "pissa", "vera"]
"""Methods of the registry, files of ``training/methods/``."""


class Reviews(Part):
    """How many reviews of each part of the split, from its start."""

    train: allowed.Reviewed
    val: allowed.Reviewed
    test: allowed.Reviewed


class TableParams(Part):
    """Columns of a table; ``seed`` draws parts that neither ``split`` nor names of files give."""

    text: allowed.Column = "text"
    label: allowed.Column = "label"
    split: allowed.Column | None = None
    seed: allowed.Seed = 1


class DataParams(Part):
    """Where the reviews, or other texts, come from."""

    source: Literal["hub", "archive", "folder", "parquet", "generated", "table"]
    path: allowed.File | None = None
    reviews: Reviews
    generated_seed: allowed.Seed
    table: TableParams | None = Field(default=None, exclude_if=not_)

    @property
    def is_imdb(self) -> bool:
        """Whether they are IMDb's reviews."""
        return self.source not in ("generated", "table")

    @property
    def is_whole(self) -> bool:
        """Whether they are all of the article's split of IMDb."""
        return self.is_imdb and self.reviews.model_dump() == ARTICLE_REVIEWS

    @model_validator(mode="after")
    def _sizes_fit_source(self) -> Self:
        for part, most in ARTICLE_REVIEWS.items():
            size = getattr(self.reviews, part)
            if size > most and self.is_imdb:
                raise ValueError(
                    f"reviews.{part} is {size}; the article's split of IMDb has {most}"
                )
        if self.source in ("folder", "parquet", "table") and not self.path:
            raise ValueError(f"source {self.source} needs data.path")
        if self.source in ("hub", "generated") and self.path:
            raise ValueError(
                f"data.path is {self.path!r}, but source {self.source} reads none; set it to null"
            )
        known = self.source == "table" and hub_file(self.path or "")
        if (self.path or "").startswith(HUB) and not known:
            raise ValueError(f"data.path is {self.path!r}; allowed: for source table, {HUB_FORM}")
        if self.table and self.source != "table":
            raise ValueError(f"data.table is for source table; source is {self.source}")
        return self


class ModelParams(Part):
    """Which encoder, and how much of a review it sees."""

    encoder: Literal[ENCODERS]  # type: ignore[valid-type]  # the table says which
    path: allowed.File | None = None
    max_tokens: Annotated[int, whole(3, 512)]

    @model_validator(mode="after")
    def _path_fits_encoder(self) -> Self:
        if (self.encoder == FOLDER) != bool(self.path):
            raise ValueError("model.path is needed by encoder folder, and by no other")
        return self


class TrainParams(Part):
    """How every method trains."""

    epochs: Annotated[int, whole(1, 1000)]
    batch_size: Annotated[int, whole(1, 4096, " of reviews")]
    learning_rate: allowed.LearningRate
    precision: Literal["fp16-mixed", "bf16-mixed", "fp32"]
    device: Literal["cuda", "cpu"]


def shortest(number: float) -> str:
    """``number`` in six digits or, where they are not all, the shortest text that is it alone."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


SPELLED = {n.lower(): n for n in ("LoRA", "rsLoRA", "DoRA", "PiSSA", "VeRA", "BitFit", "IA3")}
"""Methods as their papers write them."""


def method_in_words(name: str) -> str:
    """A method's name for people: ``lora_default`` is ``LoRA default``."""
    return " ".join(SPELLED.get(w, w) for w in name.split("_")).replace("LoRA plus", "LoRA+")


class LoraParams(Part):
    """A LoRA configuration: y = linear(x) + s * (dropout(x) @ A @ B), s = alpha (article), alpha /
    rank (paper) or alpha / sqrt(rank) (rslora).
    """

    rank: allowed.Rank
    alpha: allowed.Alpha
    targets: allowed.Targets
    scaling: allowed.Scaling = "article"
    dropout: allowed.Dropout = 0.0

    @property
    def words(self) -> str:
        """``rank 8, alpha 16, query + value``."""
        return f"rank {self.rank}, alpha {self.alpha:g}, {' + '.join(self.targets)}"


class MethodExtras(Part):
    """What few methods have, so it is left out of files where it is at its default.

    Attributes:
        train_head: whether the two layers after the encoder train with the rest, as is usual in
            classification; the article freezes them under LoRA.
        options: the method's own; those at their defaults are left out.
        file: of a method outside the package, from the project's folder; ``file_sha256``: of it.
    """

    train_head: bool = Field(default=False, exclude_if=not_)
    options: dict[str, Any] = Field(default={}, exclude_if=not_)
    file: allowed.File | None = Field(default=None, exclude_if=not_)
    file_sha256: str | None = Field(default=None, exclude_if=not_)


class MethodParams(MethodExtras):
    """What trains: a method of the registry (``trains``), or one in a user's ``file``."""

    trains: BuiltIn | None = None
    learning_rate: allowed.LearningRate | None = None
    lora: LoraParams | None = None

    @model_validator(mode="after")
    def _are_of_one_method(self) -> Self:
        if (self.trains is None) == (self.file is None):
            raise ValueError("trains or file is needed, and not both")
        if self.trains and (self.trains in WITH_LORA) != (self.lora is not None):
            raise ValueError(f"lora settings are needed where trains is in {WITH_LORA} alone")
        adapted = self.lora.targets if self.lora else ()
        if self.train_head and (self.trains in ("head", "all") or "head" in adapted):
            raise ValueError("train_head is true, but the head is trained or adapted anyway")
        return self


class RunParams(Part):
    """Which methods are trained, once for each seed; the first also nudged, see ``Run.nudge``."""

    methods: Several[allowed.MethodName]
    seeds: Several[allowed.Seed]
    nudges: allowed.Nudges = 0


class GridParams(Part):
    """The space of LoRA configurations: every combination of the lists."""

    learning_rate: Several[allowed.LearningRate] | None = None
    alpha: Several[allowed.Alpha]
    rank: Several[allowed.Rank]
    query: Several[bool]
    key: Several[bool]
    value: Several[bool]
    projection: Several[bool]
    mlp: Several[bool]
    head: Several[bool]
    scaling: allowed.Scaling
    dropout: allowed.Dropout
    seed: allowed.Seed
    evaluate_train: bool
    stop_one_class: bool
    winner_seeds: Several[allowed.Seed]
    runners_up: Annotated[int, whole(0, 100, " of configurations")]

    @model_validator(mode="after")
    def _can_be_computed(self) -> Self:
        if self.seed in self.winner_seeds:
            raise ValueError(
                f"winner_seeds holds the grid's own seed {self.seed}; the winner is to have others"
            )
        if all(False in getattr(self, target) for target in TARGETS):
            raise ValueError("one configuration would have no target; set a switch to [true]")
        cells = math.prod(len(getattr(self, key)) for key in ("alpha", "rank", *TARGETS))
        cells *= len(self.learning_rate or [None])
        if cells > MOST_CELLS:
            raise ValueError(f"there are {cells:,} configurations; allowed: {MOST_CELLS:,}")
        return self


class Axes(Part):
    """What a method's sweep tries: every combination; alpha and rank where the method has them."""

    learning_rate: Several[allowed.LearningRate]
    alpha: Several[allowed.Alpha] | None = None
    rank: Several[allowed.Rank] | None = None

    @property
    def trials(self) -> int:
        """Combinations."""
        return math.prod(len(axis) for axis in (self.learning_rate, self.alpha, self.rank) if axis)


class SweepParams(Part):
    """Tuning: each method tries equally many settings, and its best by validation becomes its own.

    Attributes:
        seeds: of every trial, none of them a final one; ``nudges``: repeats of the first of them.
        unstable_beyond: percentage points between the validation accuracies of a setting's runs;
            what is further apart, or diverges, is chosen only where nothing else is left.
        methods: what each tries, equally many settings; without alpha and rank maybe as many rates.
    """

    seeds: Several[allowed.Seed]
    nudges: allowed.Nudges
    unstable_beyond: allowed.Points
    methods: allowed.ByMethod[Axes]


class CudaParams(Part):
    """Other ways to compute a run on CUDA, off until they were measured there: the same results but
    for rounding, and in training for the masks of dropout.

    Attributes:
        fused_attention: training attends by torch's fused kernels, with their own dropout.
        ragged_evaluation: evaluation attends without any padding, by kernels for 16 bits.
        graphs: training steps are CUDA graphs, of batches rounded up to few sizes; with
            ``fused_attention`` those of runs that train alone.
    """

    fused_attention: bool = False
    ragged_evaluation: bool = False
    graphs: bool = False

    @property
    def on(self) -> list[str]:
        """The names of those that are on."""
        return [name for name, is_on in self if is_on]


PLAIN = CudaParams()
"""All of them off."""


class ExecutionParams(Part):
    """How and where runs are computed, never what: no key and no DVC stage depends on it."""

    pack: Annotated[int, whole(1, 1024, " of configurations")] | None
    executor: Literal["local", "ray"]
    attempts: Annotated[int, whole(1, 100)]
    pack_timeout: allowed.Seconds | None
    ray_address: allowed.Address | None
    ray_cpus: Annotated[int, whole(1, 1024, " of CPUs")]
    ray_gpu_share: allowed.GpuShare
    cuda: CudaParams = PLAIN

    @model_validator(mode="after")
    def _executor_can_do_it(self) -> Self:
        if self.executor == "ray" and self.pack is None:
            raise ValueError(
                "pack null measures this machine's memory, not Ray's; set a number for executor ray"
            )
        if self.executor == "local" and self.pack_timeout is not None:
            raise ValueError(
                "pack_timeout needs executor ray, which can kill what hangs; set null for local"
            )
        return self


class ReportParams(Part):
    """What the report computes, and what was easy and what was difficult to replicate."""

    confidence: allowed.Share
    value_margin: allowed.Points
    sameness_margin: allowed.Points
    precision: allowed.Points
    power: allowed.Share
    easy: Several[allowed.Line] | None = None
    difficult: Several[allowed.Line] | None = None


class TrackingParams(Part):
    """Where MLflow keeps its mirror of the records."""

    uri: Annotated[
        str,
        Field(pattern=allowed.LINE, description="an MLflow address, such as sqlite:///mlflow.db"),
    ]
    experiment: allowed.Name


class Study(Part):
    """Everything that a study asks for."""

    study: allowed.Name
    root: Literal[".", "../.."]
    title: allowed.Line
    data: DataParams
    model: ModelParams
    train: TrainParams
    methods: allowed.ByMethod[MethodParams]
    run: RunParams
    sweeps: SweepParams | None = None
    grid: GridParams | None
    execution: ExecutionParams
    report: ReportParams
    tracking: TrackingParams

    @model_validator(mode="after")
    def _methods_exist(self) -> Self:
        for name in RESERVED & self.methods.keys():
            raise ValueError(f"methods.{name}: this name is the grid's own; allowed: any other")
        swept = list(self.sweeps.methods) if self.sweeps else []
        for key, names in (("run.methods", self.run.methods), ("sweeps.methods", swept)):
            for name in names:
                if name not in self.methods:
                    raise ValueError(f"{key} names {name!r}; allowed: {', '.join(self.methods)}")
        return self

    @model_validator(mode="after")
    def _cuda_settings_have_an_effect(self) -> Self:
        for name in self.execution.cuda.on:
            wrong = ""
            if self.train.device == "cpu":
                wrong = "train.device is cpu; allowed: false, or train.device cuda"
            elif name == "ragged_evaluation" and self.train.precision == "fp32":
                wrong = "train.precision is fp32; allowed: false, or fp16-mixed or bf16-mixed"
            if wrong:
                raise ValueError(f"execution.cuda.{name} is true, but {wrong}")
        return self

    @model_validator(mode="after")
    def _sweeps_fit(self) -> Self:
        if (sweeps := self.sweeps) is None:
            return self
        most = max(axes.trials for axes in sweeps.methods.values())
        rates = {len(axes.learning_rate) for axes in sweeps.methods.values() if axes.trials == most}
        for name, axes in sweeps.methods.items():
            key, lora = f"sweeps.methods.{name}", self.methods[name].lora
            if (axes.alpha or axes.rank) and lora is None:
                raise ValueError(f"{key}: alpha and rank are LoRA's; allowed: learning_rate")
            fair = {most} if lora else {most, *rates}
            if axes.trials not in fair:
                text = " or ".join(map(str, sorted(fair)))
                raise ValueError(f"{key}: its number of settings is {axes.trials}; allowed: {text}")
        final = set(self.run.seeds) | set(self.grid.winner_seeds if self.grid else ())
        if shared := sorted(final & set(sweeps.seeds)):
            raise ValueError(
                f"sweeps.seeds and the final runs share {', '.join(map(str, shared))}; "
                "allowed: seeds in neither run.seeds nor grid.winner_seeds"
            )
        return self

    @property
    def is_the_articles(self) -> bool:
        """Whether it is DistilBERT on the whole of IMDb, so that the article's numbers compare."""
        about = (self.model.encoder, self.model.max_tokens)
        return about == ("distilbert-base-uncased", 512) and self.data.is_whole
