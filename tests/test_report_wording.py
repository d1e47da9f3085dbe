"""Words and rounding."""

import pytest
from report_records import make_study

from lora_replication.reading import load_study
from lora_replication.report import wording
from lora_replication.statistics import t_interval, wilson_interval

GENERATED = {
    "source": "generated",
    "path": None,
    "reviews": {"train": 300, "val": 100, "test": 300},
    "generated_seed": 1,
}


def test_generated_reviews_are_named_in_every_form() -> None:
    study = make_study(title="Demo", data=GENERATED)
    assert wording.title(study) == "Demo (generated reviews, not IMDb)"
    assert (
        wording.title(make_study(title="MiniLM on generated reviews, not IMDb", data=GENERATED))
        == "MiniLM on generated reviews, not IMDb"
    )
    for text in (wording.reservation(study), wording.remark(study), wording.stamp(study)):
        assert text is not None
        assert "enerated reviews, not IMDb" in text


def test_a_part_of_imdb_is_not_called_generated_and_not_the_articles() -> None:
    study = make_study()
    assert wording.title(study) == "MiniLM on a part of IMDb"
    assert "not DistilBERT on the whole of IMDb" in str(wording.reservation(study))
    assert "MiniLM on 2,000 training, 500 validation and 1,000 test reviews" in str(
        wording.reservation(study)
    )
    assert (
        "enerated"
        not in f"{wording.reservation(study)}{wording.remark(study)}{wording.stamp(study)}"
    )


def test_the_articles_own_study_needs_no_reservation() -> None:
    from report_records import PARAMS

    study = load_study(PARAMS)
    assert (wording.reservation(study), wording.remark(study), wording.stamp(study)) == (
        None,
        "",
        "",
    )


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (
            {
                "rank": 8,
                "alpha": 16.0,
                "targets": ["query", "value"],
                "scaling": "article",
                "dropout": 0.0,
            },
            "LoRA, rank 8, alpha 16, on query and value",
        ),
        (
            {"rank": 1, "alpha": 0.5, "targets": ["mlp"], "scaling": "paper", "dropout": 0.05},
            "LoRA, rank 1, alpha 0.5 / rank, on mlp, dropout 0.05",
        ),
    ],
)
def test_a_configuration_in_words(lora: dict[str, object], said: str) -> None:
    assert wording.what_trains("lora", lora) == said


def test_numbers_are_rounded_and_absent_ones_marked() -> None:
    assert [wording.percent(0.86225), wording.percent(1.0), wording.percent(None)] == [
        "86.22",
        "100.00",
        wording.ABSENT,
    ]
    assert [wording.count(66_955_010), wording.count(None)] == ["66,955,010", wording.ABSENT]
    assert wording.ends(wilson_interval(8, 10, 0.95)) == "49.02 to 94.33"
    assert wording.ends(t_interval([0.5], 0.95)) == wording.ABSENT
    assert [wording.level(0.95), wording.level(0.999)] == ["95 %", "99.9 %"]
    assert wording.gibibytes(3 * 2**29) == "1.50 GiB"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert wording.duration(seconds) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_lists_of_words(words: list[str], said: str) -> None:
    assert wording.listed(words) == said
