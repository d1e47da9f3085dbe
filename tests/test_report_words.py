"""Names, sentences and rounding."""

import pytest

from lora_replication.article import article
from lora_replication.report import words
from lora_replication.statistics import t_interval, wilson_interval
from lora_replication.study import ARTICLE_REVIEWS, LoraParams, MethodParams, method_in_words
from tests.report_records import article_study, make_study

SETTING = article().setting
GENERATED = {"source": "generated", "path": None, "generated_seed": 1}


def said_of(study: object) -> list[str]:
    return [words.say(name, study, SETTING) for name in ("reservation", "remark", "stamp")]


def test_generated_reviews_are_named_in_every_form() -> None:
    study = make_study(title="Demo", data=GENERATED)
    assert words.say("title", study) == "Demo (generated reviews, not IMDb)"
    named = make_study(title="MiniLM on generated reviews, not IMDb", data=GENERATED)
    assert words.say("title", named) == "MiniLM on generated reviews, not IMDb"
    assert all("enerated reviews, not IMDb" in text for text in said_of(study))


def test_a_part_of_imdb_is_not_called_generated_and_not_the_articles() -> None:
    study = make_study()
    assert words.say("title", study) == "MiniLM on a part of IMDb"
    reservation, *_ = said_of(study)
    assert "not DistilBERT on the whole of IMDb" in reservation
    assert "MiniLM on 2,000 training, 500 validation and 1,000 test reviews" in reservation
    assert not any("enerated" in text for text in said_of(study))


def test_all_reviews_with_another_encoder_are_called_all() -> None:
    study = make_study(data={"source": "archive", "reviews": ARTICLE_REVIEWS})
    reservation, remark, stamp = said_of(study)
    assert "not DistilBERT: it is MiniLM on all 35,000 training, 5,000 validation" in reservation
    assert (remark.split(";")[0], stamp) == ("Not DistilBERT", "Not DistilBERT")
    shorter = article_study(model={"max_tokens": 256})
    assert said_of(shorter)[2] == "Not DistilBERT on the whole of IMDb"


def test_the_articles_own_study_needs_no_reservation() -> None:
    assert said_of(article_study()) == ["", "", ""]


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"rank": 8, "alpha": 16, "targets": ["query", "value"]},
         "LoRA, rank 8, alpha 16, on query and value"),
        ({"rank": 1, "alpha": 0.5, "targets": ["mlp"], "scaling": "paper", "dropout": 0.05},
         "LoRA, rank 1, alpha 0.5 / rank, on mlp, dropout 0.05"),
    ],
)  # fmt: skip
def test_a_configuration_in_words(lora: dict[str, object], said: str) -> None:
    assert words.trains_in_words(MethodParams(trains="lora", lora=LoraParams(**lora))) == said
    assert list(map(method_in_words, ["lora_default", "full"])) == ["LoRA default", "full"]


def test_numbers_are_rounded_and_absent_ones_marked() -> None:
    shown = [words.percent(0.86225), words.percent(1.0), words.percent(None)]
    assert shown == ["86.22", "100.00", words.ABSENT]
    assert [words.signed(0.0203), words.signed(-0.0203)] == ["+2.03", "\N{MINUS SIGN}2.03"]
    assert [words.count(66_955_010), words.count(None)] == ["66,955,010", words.ABSENT]
    assert words.ends(wilson_interval(8, 10, 0.95)) == "49.02 to 94.33"
    assert words.ends(t_interval([0.5], 0.95)) == words.ABSENT
    assert [words.level(0.95), words.level(0.999)] == ["95 %", "99.9 %"]
    assert [words.p_value(0.0009), words.p_value(0.4789)] == ["< 0.001", "0.479"]
    assert [words.of(3, 3), words.of(2, 3)] == ["3", "2 of 3"]
    assert words.gibibytes(3 * 2**29) == "1.50 GiB"
    assert [words.listed("abc"[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    durations = {12.34: "12.3 s", 59.97: "1 min 00 s", 3599.6: "1 h 00 min", 7620: "2 h 07 min"}
    assert {seconds: words.duration(seconds) for seconds in durations} == durations
    assert words.duration(None) == words.ABSENT
