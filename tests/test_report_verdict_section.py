"""The section on verdicts: the statement that comes first, and every cell of the table."""

import json

from report_records import PARAMS, make_records, make_study
from test_verdicts import ARTICLE, COUNTS, base, world

from lora_replication.reading import check_study, merge_files
from lora_replication.report.export import verdicts_json
from lora_replication.report.summary import summarise
from lora_replication.report.verdict_section import verdict_statement, verdict_table
from lora_replication.report.verdicts import headline, judge
from lora_replication.report.wording import ABSENT


def test_sizes_of_another_encoder_are_told_apart_from_what_training_decides() -> None:
    study = make_study()
    found = judge(summarise(study, make_records(study)))
    # MiniLM's head has 148,610 parameters, twice those of LoRA on it, not four times.
    ratio = next(verdict for verdict in found if verdict.claim.name == "ratio_last_layers")
    assert (ratio.word, ratio.reason) == (
        "not reproduced",
        "2.02 here, 4 in the article at 1 significant digit; this follows from the sizes of this study's encoder, not from training",
    )
    assert headline(found) == (
        "Of 18 claims of the article, 10 are about accuracy: 2 reproduced, 1 inconclusive, 7 not judged. "
        "8 are about numbers of parameters, which follow from the encoder's sizes without any training: "
        "1 reproduced, 2 not reproduced, 5 not judged."
    )
    table = verdict_table(found, study)
    assert not any(cell.alert for row in table.rows for cell in row)
    assert [row[0].note.partition(":")[0] for row in table.rows] == [*["order"] * 3, *["ratio"] * 3]
    against = verdict_table(
        judge(world({**ARTICLE, "full": 80.0}, counts={**COUNTS, "full": 1})), base().study
    )
    alerted = {row[0].text for row in against.rows if row[1].alert}
    assert {"full trains 66,955,010 parameters", "Test accuracy of full: 92.31 %"} <= alerted


def test_the_statement_comes_first_and_the_table_has_every_claim() -> None:
    found = judge(world(ARTICLE))
    assert headline(found) == (
        "Of 18 claims of the article, 10 are about accuracy: 9 reproduced, 1 consistent. "
        "8 are about numbers of parameters, which follow from the encoder's sizes without any training: 8 reproduced."
    )
    statement = verdict_statement(found, base().study)
    assert statement[0] == headline(found)
    assert "0.5 points for a published accuracy" in statement[2]
    table = verdict_table(found, base().study)
    assert [row[1].text for row in table.rows] == [verdict.word for verdict in found]
    assert json.loads(verdicts_json(world(ARTICLE)))["headline"] == headline(found)


def test_every_cell_of_the_table_of_verdicts() -> None:
    def p(pair: tuple[float, float] | None) -> tuple[str, str]:
        raw, corrected = (
            ("< 0.001" if one < 0.001 else f"{one:.3f}" for one in pair) if pair else ("", "")
        )
        return (raw, f"Holm {corrected}") if pair else (ABSENT, "")

    summary = world({**ARTICLE, "full": 90.0}, (-0.25, 0.1, 0.0, 0.3, -0.15))
    found = judge(summary)
    for verdict, row in zip(found, verdict_table(found, summary.study).rows, strict=True):
        assert [(cell.text, cell.note) for cell in row] == [
            (verdict.claim.words, f"{verdict.claim.kind}: {verdict.claim.test}"),
            (verdict.word, ""),
            (verdict.reason, ""),
            p(verdict.p_difference),
            p(verdict.p_sameness),
            (str(verdict.seeds_needed or ABSENT), ""),
        ]
    assert any(verdict.seeds_needed for verdict in found)
    other = make_study()
    of_other = judge(summarise(other, make_records(other)))
    assert {row[1].note for row in verdict_table(of_other, other).rows[:5]} == {of_other[0].scope}


def test_the_statement_gives_each_margin_and_who_is_not_judged() -> None:
    content = merge_files(PARAMS)
    margins = {"value_margin": 0.7, "sameness_margin": 0.3, "precision": 1.5, "confidence": 0.9}
    study = check_study(
        content
        | {"report": content["report"] | margins, "run": content["run"] | {"methods": ["full"]}}
    )
    statement = verdict_statement(judge(summarise(study, make_records(study))), study)
    assert (
        "0.7 points for a published accuracy, 0.3 points for sameness, 1.5 points for the half of an interval"
        in statement[2]
    )
    assert "at most 10 % of" in statement[2]
    assert (
        "Not judged, as this study does not train lora_tuned: tuned_as_good_as_full, test_accuracy_of_lora_tuned, parameters_of_lora_tuned."
        in statement
    )
