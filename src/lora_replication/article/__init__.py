"""The article's published numbers and claims, typed; ``article.yaml`` states them."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from lora_replication.allowed import Facts, Scaling
from lora_replication.study import LoraParams, MethodParams, Study

Kind = Literal["count", "value", "order", "ratio", "sameness", "selection"]


class PublishedMethod(Facts):
    """What the article says of one method.

    Attributes:
        trains: "head", "lora" or "all"; ``lora``: the LoRA configuration, None without LoRA.
        trainable_parameters: number of scalars that training changes.
        train_percent, val_percent, test_percent: accuracy of the best epoch by validation, one run.
        minutes: training time on one A10G GPU, None where not stated.
        source: where the article says so; ``other_sources``: of single numbers, where they differ.
    """

    trains: Literal["head", "lora", "all"]
    lora: LoraParams | None = None
    trainable_parameters: int
    train_percent: float
    val_percent: float
    test_percent: float
    minutes: float | None = None
    source: str
    other_sources: dict[str, str] = Field(default_factory=dict)

    def configures(self, method: MethodParams) -> bool:
        """Whether ``method`` trains what the article's method of this name trains."""
        own = MethodParams(trains=self.trains, lora=self.lora, learning_rate=method.learning_rate)
        return method == own


class Claim(Facts):
    """One statement of the article.

    Attributes:
        name: for programs; ``words``: the statement in short.
        kind: what is claimed: a count, a ratio of counts, an accuracy or a difference of two
            (value), which of two is better (order), that two are as good (sameness), or which
            configuration is best (selection).
        methods: what it is about. Ratios are of the first to the second; differences and orders of
            the second minus the first.
        number: as published: a count, a ratio, percent, or percentage points; None for pure orders.
        digits: significant digits of a rounded count or ratio; None where it is exact.
        layer: inputs, outputs and rank of the example layer that a count or ratio is about, None
            for the methods' own.
        source: where the article says so; ``test``: what decides it, in words.
    """

    name: str
    kind: Kind
    words: str
    methods: tuple[str, ...] = ()
    number: float | None = None
    digits: int | None = None
    layer: tuple[int, int, int] | None = None
    source: str
    test: str

    @property
    def is_about_sizes(self) -> bool:
        """Whether numbers of parameters decide it, which no training changes."""
        return self.kind in ("count", "ratio")


class RateClaim(Facts):
    """What others say about learning rates of LoRA; ``rates.yaml`` holds all and explains them.

    Attributes:
        kind: what is claimed; ``axis``: of LoRA, for slopes and gains.
        methods: of an order, the second being claimed better; otherwise it is about each of LoRA.
        number: what is claimed, None for more than 0; ``margin``: how near to it is as claimed,
            None for ``report.sameness_margin``.
        scaling: of LoRA, in a claim on rank; a sweep of alphas at one scaling says it for others.
    """

    name: str
    kind: Literal["ratio", "slope", "gain", "order"]
    axis: Literal["alpha", "rank"] | None = None
    methods: tuple[str, ...] = ()
    number: float | None = None
    margin: float | None = None
    scaling: Scaling = "article"
    words: str
    source: str


class Article(Facts):
    """The whole file: where it was published, what on, how it trained; its methods by name and its
    claims, orders and sameness first.
    """

    citation: str
    url: str
    setting: str
    training: dict[str, int | float | str]
    methods: dict[str, PublishedMethod]
    tests: dict[Kind, str]
    claims: tuple[Claim, ...]

    def is_setting_of(self, study: Study) -> bool:
        """Whether ``study`` has the article's encoder, data and tokens, and trains with its epochs,
        batch size and precision; rates are each method's own.
        """
        shared = ("epochs", "batch_size", "precision")
        same = all(getattr(study.train, key) == self.training[key] for key in shared)
        return study.is_the_articles and same

    def is_rate_of(self, study: Study, name: str) -> bool:
        """Whether ``study`` trains the method ``name`` at the article's learning rate."""
        rate = study.methods[name].learning_rate or study.train.learning_rate
        return rate == self.training["learning_rate"]

    def compares(self, study: Study, name: str) -> bool:
        """Whether what it says of the method ``name`` is about what ``study`` trains."""
        known = self.methods.get(name)
        configured = known is not None and known.configures(study.methods[name])
        return configured and self.is_setting_of(study) and self.is_rate_of(study, name)


@cache
def article() -> Article:
    """The article, read once."""
    from ruamel.yaml import YAML

    content = YAML(typ="safe", pure=True).load(Path(__file__).with_name("article.yaml"))
    return Article.model_validate(content)


@cache
def rate_claims() -> tuple[RateClaim, ...]:
    """What others say about learning rates."""
    from ruamel.yaml import YAML

    content = YAML(typ="safe", pure=True).load(Path(__file__).with_name("rates.yaml"))
    return tuple(RateClaim.model_validate(one) for one in content)
