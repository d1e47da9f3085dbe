"""The published numbers: what the article's statements say of them, and the parameters counted by
hand.
"""

import re
from pathlib import Path

import pytest

from lora_replication.article import claims, published
from lora_replication.reading import load_study

PARAMS = Path(__file__).parent.parent / "params.yaml"
WIDTH, LAYERS, INNER, RANK = 768, 6, 3072, 8


def test_parameters_follow_from_distilbert() -> None:
    head = (WIDTH * WIDTH + WIDTH) + (WIDTH * 2 + 2)
    square, up = RANK * (WIDTH + WIDTH), RANK * (WIDTH + INNER)
    counts = {name: method.trainable_parameters.value for name, method in published().items()}
    assert counts["last_layers"] == head
    assert counts["lora_default"] == LAYERS * 2 * square
    assert counts["lora_tuned"] == LAYERS * (2 * square + 2 * up)
    embeddings = (30_522 + 512) * WIDTH + 2 * WIDTH
    layer = (
        4 * (WIDTH * WIDTH + WIDTH) + (WIDTH * INNER + INNER) + (INNER * WIDTH + WIDTH) + 4 * WIDTH
    )
    assert counts["full"] == embeddings + LAYERS * layer + head


def test_accuracies_fit_the_articles_statements() -> None:
    test = {name: method.test_percent.value for name, method in published().items()}
    assert test["last_layers"] < test["lora_default"] < test["full"] < test["lora_tuned"]
    assert test["full"] - test["lora_default"] == pytest.approx(2.87)
    assert test["lora_tuned"] - test["full"] == pytest.approx(0.08)
    # Counts of 35,000, 5,000 and 10,000 reviews: validation and test percentages are whole numbers
    # of reviews.
    for method in published().values():
        assert round(method.val_percent.value * 50) == pytest.approx(method.val_percent.value * 50)


def test_every_number_has_a_source() -> None:
    for method in published().values():
        numbers = [
            method.trainable_parameters,
            method.train_percent,
            method.val_percent,
            method.test_percent,
            method.minutes,
        ]
        assert all(number.source for number in numbers if number)
    assert [name for name, method in published().items() if method.minutes is None] == [
        "lora_tuned"
    ]


def test_every_claims_words_give_its_number() -> None:
    for claim in claims():
        if claim.number is not None and claim.kind != "selection":
            forms = {f"{claim.number:,.2f}", f"{claim.number:,.0f}", f"{claim.number / 1000:.0f}k"}
            assert any(
                re.search(rf"(?<![\d.,]){re.escape(form)}(?![\d.])", claim.words) for form in forms
            ), claim.words


def test_the_articles_study_configures_the_articles_methods() -> None:
    study = load_study(PARAMS)
    assert all(method.configures(study.methods[name]) for name, method in published().items())


def test_another_configuration_under_the_same_name_is_noticed() -> None:
    study = load_study(PARAMS)
    assert not published()["lora_default"].configures(study.methods["lora_tuned"])
    assert not published()["full"].configures(study.methods["last_layers"])
    paper = study.methods["lora_default"].model_copy(
        update={"lora": study.methods["lora_default"].lora.model_copy(update={"scaling": "paper"})}
    )
    assert not published()["lora_default"].configures(paper)
