from report_records import make_manifest, make_records, make_study

from lora_replication.report.build import build_report
from lora_replication.report.terminal import terminal_table


def test_the_table_says_what_the_report_says(tmp_path):
    study = make_study()
    build_report(study, make_records(study), make_manifest(), tmp_path)
    lines = terminal_table(tmp_path / "table.csv").splitlines()
    assert lines[0] == study.title
    assert lines[1].split() == [
        "method",
        "trainable",
        "runs",
        "train",
        "val",
        "test",
        "test",
        "sampling",
        "seeds",
    ]
    # The fixture's last layers answer 781, 779 and 790 of 1,000 test reviews: mean 78.33.
    assert lines[2].startswith("last_layers      148,610  3 of 3")
    assert lines[2].split()[5:8] == ["82.33", "78.33", "78.33"]
    assert [line.split()[0] for line in lines[2:7]] == [
        "last_layers",
        "lora_default",
        "lora_tuned",
        "full",
        "grid_winner",
    ]
    assert len({len(line) for line in lines[1:7]}) == 1


def test_what_is_missing_is_a_dash(tmp_path):
    study = make_study(run={"methods": ["full"], "seeds": [1]})
    records = [record for record in make_records(study) if record.asked.role == "method"]
    build_report(study, records, make_manifest(), tmp_path, allow_partial=True)
    (row,) = [
        line
        for line in terminal_table(tmp_path / "table.csv").splitlines()
        if line.startswith("full")
    ]
    assert row.split()[-1] == "-"  # one run has no interval over seeds
