"""The article's statements as data: what is claimed, its numbers, and which test decides it. The
margins stand in params.
"""

from dataclasses import dataclass
from typing import Literal

from lora_replication.article.numbers import CITATION, PublishedMethod, published

Kind = Literal["count", "value", "order", "ratio", "sameness", "selection"]

TESTS: dict[Kind, str] = {
    "count": "exact comparison of counts, at the digits that the article gives",
    "ratio": "exact ratio of counts, at the digits that the article gives",
    "value": "prediction interval over seeds and two one-sided tests against report.value_margin",
    "order": "paired t test over shared seeds, two-sided, Holm over all claims",
    "sameness": "two one-sided paired t tests over shared seeds against report.sameness_margin",
    "selection": "place by validation in the whole grid, and a test of two proportions against its winner, corrected for the choice",
}


@dataclass(frozen=True)
class Claim:
    """One statement of the article.

    Attributes:
        name: for programs.
        words: the statement in short.
        kind: what is claimed: a count, a ratio of counts, an accuracy or a difference of two
            (value), which of two is better (order), that two are as good (sameness), or which
            configuration is best (selection).
        methods: what it is about. Ratios are of the first to the second; differences and orders of
            the second less the first.
        number: as published: a count, a ratio, percent, or percentage points; null for pure orders.
        digits: significant digits with which the article gives a rounded count or ratio; null where
            it is exact.
        layer: inputs, outputs and rank of the example layer that a count or ratio is about, null
            for the methods' own.
        source: where the article says so.
    """

    name: str
    words: str
    kind: Kind
    methods: tuple[str, ...]
    number: float | None
    source: str
    digits: int | None = None
    layer: tuple[int, int, int] | None = None

    @property
    def test(self) -> str:
        """What decides it, in words."""
        return TESTS[self.kind]

    @property
    def is_about_sizes(self) -> bool:
        """Whether numbers of parameters decide it, which no training changes."""
        return self.kind in ("count", "ratio")


def claims() -> tuple[Claim, ...]:
    """All claims, orders and sameness first."""
    return (*_orders(), _sameness(), _selection(), *_values(), *_ratios(), *_counts())


def _orders() -> list[Claim]:
    return [
        Claim(
            "lora_above_last_layers",
            "LoRA with its default settings is more accurate than training the last layers",
            "order",
            ("last_layers", "lora_default"),
            None,
            CITATION,
        ),
        Claim(
            "full_above_lora",
            "Training all layers is more accurate than LoRA with its default settings",
            "order",
            ("lora_default", "full"),
            None,
            CITATION,
        ),
        Claim(
            "tuned_above_default",
            "LoRA with tuned settings is more accurate than with its default settings",
            "order",
            ("lora_default", "lora_tuned"),
            None,
            CITATION,
        ),
    ]


def _sameness() -> Claim:
    words = "LoRA with tuned settings is as accurate as training all layers, “even slightly higher”: by 0.08 points, 8 reviews of 10,000"
    return Claim("tuned_as_good_as_full", words, "sameness", ("full", "lora_tuned"), 0.08, CITATION)


def _selection() -> Claim:
    words = "Of all configurations, rank 8 with alpha 1 on query, value and mlp is best"
    return Claim(
        "best_configuration",
        words,
        "selection",
        ("lora_tuned",),
        None,
        f"{CITATION}, and the results file published with it",
    )


def _values() -> list[Claim]:
    gain = published()["full"].test_percent.value - published()["lora_default"].test_percent.value
    values = [_value(method) for method in published().values()]
    words = f"Training all layers gives “2 %” more test accuracy than LoRA with its default settings; by its numbers {gain:.2f} points"
    return [
        *values,
        Claim("gain_of_full", words, "value", ("lora_default", "full"), round(gain, 2), CITATION),
    ]


def _value(method: PublishedMethod) -> Claim:
    number = method.test_percent
    words = f"Test accuracy of {method.name}: {number.value:.2f} %"
    return Claim(
        f"test_accuracy_of_{method.name}",
        words,
        "value",
        (method.name,),
        number.value,
        number.source,
    )


def _ratios() -> list[Claim]:
    return [
        Claim("ratio_last_layers", "LoRA trains “4x” fewer parameters than the last layers have", "ratio",
              ("last_layers", "lora_default"), 4, CITATION, digits=1),
        Claim("ratio_full", "Training all layers trains “450x” more parameters than LoRA", "ratio",
              ("full", "lora_default"), 450, CITATION, digits=2),
        Claim("ratio_example_layer", "LoRA of rank 8 on a weight of 5,000 x 10,000 trains “400 times” fewer parameters", "ratio",
              (), 400, CITATION, digits=1, layer=(5_000, 10_000, 8)),
    ]  # fmt: skip


def _counts() -> list[Claim]:
    example = Claim("parameters_of_example_layer", "LoRA of rank 8 on a weight of 5,000 x 10,000 trains 120,000 parameters", "count",
                    (), 120_000, CITATION, layer=(5_000, 10_000, 8))  # fmt: skip
    return [*(_count(method) for method in published().values()), example]


def _count(method: PublishedMethod) -> Claim:
    number = method.trainable_parameters
    if method.name == "lora_tuned":  # the one count that the article itself rounds
        words = "LoRA with tuned settings trains “500k” parameters"
        return Claim(
            "parameters_of_lora_tuned", words, "count", (method.name,), 500_000, CITATION, digits=1
        )
    words = f"{method.name} trains {number.value:,.0f} parameters"
    return Claim(
        f"parameters_of_{method.name}", words, "count", (method.name,), number.value, number.source
    )
