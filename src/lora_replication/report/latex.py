"""The table of methods for a paper: ``table.tex`` (needs the package booktabs) and
``citation.bib``.
"""

from lora_replication import __version__
from lora_replication.report.summary import MethodSummary, Summary
from lora_replication.report.tables import article_note
from lora_replication.report.wording import count, level, percent, remark, title
from lora_replication.statistics import Interval
from lora_replication.study import Study

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}",
    "“": "``", "”": "''", "—": "--", "|": r"\textbar{}",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is, on one line; characters beyond ASCII that no plain LaTeX font
    has become question marks.
    """
    line = " ".join(text.split())
    return "".join(SPECIAL.get(sign, sign if " " <= sign <= "~" else "?") for sign in line)


def table_tex(summary: Summary) -> bytes:
    """A floating table: methods, parameters, runs, mean accuracies, both intervals of the test's,
    the article's where comparable.
    """
    confidence = level(summary.study.report.confidence)
    head = ["Method", "Parameters", "Runs", "Train", "Val.", "Test", "Seeds", "Sampling", "Article"]
    lines = [
        f"% Made by lora-replication {__version__}; needs \\usepackage[T1]{{fontenc}} and \\usepackage{{booktabs}}.",
        r"\begin{table}",
        r"\centering",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        r"\begin{tabular}{@{}lrrrrrccr@{}}",
        r"\toprule",
        f"{' & '.join(head)} \\\\",
        r"\midrule",
        *(f"{' & '.join(_row(summary.study, row))} \\\\" for row in summary.rows),
        r"\bottomrule",
        r"\end{tabular}",
        f"\\caption{{{escaped(title(summary.study))}. {escaped(_caption(summary, confidence))}}}",
        f"\\label{{tab:{_label(summary.study.study)}}}",
        r"\end{table}",
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def _caption(summary: Summary, confidence: str) -> str:
    reviews = sorted({row.test_sampling.n for row in summary.rows if row.test_sampling})
    n = f" (n = {', '.join(f'{number:,}' for number in reviews)} reviews)" if reviews else ""
    missing = (
        f" {len(summary.missing):,} of {summary.asked:,} runs are missing."
        if summary.missing
        else ""
    )
    return (
        f"Mean accuracy in percent over runs. Of the test accuracy, seeds: {confidence} t interval over seeds, cut to 0 to 100; sampling: "
        f"{confidence} Wilson interval for test sampling{n}. Article: its single run.{missing} {remark(summary.study)}"
    ).strip()


def _row(study: Study, row: MethodSummary) -> list[str]:
    comparable = row.published and not article_note(study, row)
    means = [percent(interval.estimate if interval else None) for interval in row.parts.values()]
    return [
        escaped(text)
        for text in (
            row.name,
            count(row.trainable_parameters),
            f"{len(row.runs)} of {len(row.seeds)}",
            *means,
            _ends(row.parts["test"]),
            _ends(row.test_sampling),
            f"{row.published.test_percent.value:.2f}" if comparable and row.published else "—",
        )
    ]


def _ends(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return "—"
    return f"{percent(interval.low)}--{percent(interval.high)}"


def _label(study: str) -> str:
    """A study's name holds letters, digits, dots, underscores and hyphens; a label takes all but
    underscores.
    """
    return study.replace("_", "-")


def citation_bib(study: Study) -> bytes:
    """BibTeX of the article and of this project's study."""
    return (bibtex(study) + "\n").encode("ascii")


def bibtex(study: Study) -> str:
    """The two entries to cite."""
    return (
        "@misc{raschka2023codelora,\n"
        "  author       = {Sebastian Raschka},\n"
        "  title        = {Code {LoRA} from Scratch},\n"
        "  howpublished = {Lightning AI Studio},\n"
        "  year         = {2023},\n"
        "  month        = dec\n"
        "}\n\n"
        "@software{lora_replication,\n"
        "  author  = {{The lora-replication authors}},\n"
        "  title   = {lora-replication: a replication of {Code LoRA from Scratch}},\n"
        f"  version = {{{__version__}}},\n"
        f"  note    = {{study {escaped(study.study)}}}\n"
        "}"
    )
