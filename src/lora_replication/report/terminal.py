"""The report's main table for a terminal, in 60 columns for names of common length."""

import textwrap

from lora_replication.report.columns import main_columns
from lora_replication.report.results import Results
from lora_replication.report.tables import short_table
from lora_replication.report.words import level

WIDTH = 60


def terminal_table(results: Results) -> str:
    """Title, one line per method with its test accuracy in percent, and what the study is not."""
    lines = short_table(main_columns(results), results.rows, narrow=True)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    body = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    note = (
        f"Test accuracy in percent; Interval: {level(results.confidence)}, of its mean for new "
        "seeds and new reviews."
    )
    words = [results.title, *([results.remark] if results.remark else []), note]
    title, *notes = (textwrap.fill(text, WIDTH) for text in words)
    return "\n".join([title, *body, *notes])
