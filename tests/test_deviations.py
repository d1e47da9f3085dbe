"""Deviations from the article, as the parameters tell them."""

from report_records import PARAMS, make_study

from lora_replication.reading import check_study, load_study, merge_files
from lora_replication.report.deviations import ALWAYS, deviations


def test_the_articles_study_deviates_in_seeds_and_padding_alone() -> None:
    assert deviations(load_study(PARAMS)) == ALWAYS


def test_another_study_tells_what_is_other() -> None:
    told = " ".join(deviations(make_study()))
    assert "here it is MiniLM on 2,000 training" in told
    assert "precision fp32 (fp16-mixed there) and device cpu (cuda there)" in told


def test_rates_scaling_and_dropout_are_told() -> None:
    content = merge_files(PARAMS)
    content["methods"]["full"]["learning_rate"] = 1e-4
    content["grid"] |= {"scaling": "paper", "dropout": 0.1}
    told = " ".join(deviations(check_study(content)))
    assert "Learning rates of their own: full 0.0001; the article used 5e-05 for all." in told
    assert "alpha / rank" in told
    assert "drops out 0.1" in told
