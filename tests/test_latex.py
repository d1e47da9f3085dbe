"""LaTeX: everything from outside is inert, the table has its columns, and it compiles where there
is a LaTeX.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_records import PARAMS, altered, make_records, make_study

from lora_replication.reading import load_study
from lora_replication.report.latex import bibtex, citation_bib, escaped, table_tex
from lora_replication.report.summary import Summary, summarise

HOSTILE = r"\input{/etc/passwd} $x^2$ 100% a_b & #1 ~ {} <script>"


def summary(title: str = "MiniLM on a part of IMDb") -> Summary:
    study = make_study(title=title)
    return summarise(study, make_records(study))


def rows(text: str) -> list[str]:
    return text.split(r"\midrule")[1].split(r"\bottomrule", maxsplit=1)[0].strip().splitlines()


@pytest.mark.parametrize(
    ("text", "inert"),
    [
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("50 % & a_b #1 $", r"50 \% \& a\_b \#1 \$"),
        ("~^<>", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"),
        ("a\nb\x00c é", "a b?c ?"),
    ],
)
@pytest.mark.fault(40)
def test_markup_is_inert(text: str, inert: str) -> None:
    assert escaped(text) == inert


@given(st.text())
@pytest.mark.fault(40)
@pytest.mark.goal("property", "report escapes LaTeX")
def test_nothing_active_survives(text: str) -> None:
    found = escaped(text)
    for inert in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", r"\textless{}", r"\textgreater{}", r"\textquotedbl{}",
                  r"\textbar{}", r"\&", r"\%", r"\$", r"\#", r"\_", r"\{", r"\}"):  # fmt: skip
        found = found.replace(inert, "")
    assert not set(found) & set("\\&%$#_{}~^<>\n")
    assert found.isascii()


def test_rows_by_hand() -> None:
    text = table_tex(summary()).decode()
    assert (
        rows(text)[0]
        == r"last\_layers & 148,610 & 3 of 3 & 82.33 & 78.33 & 78.33 & 76.88--79.79 & 75.67--80.78 & -- \\"
    )
    assert len(rows(text)) == 5
    assert all(len(re.split(r"(?<!\\)&", row)) == 9 for row in rows(text))
    assert r"(n = 1,000 reviews)" in text
    assert "Not DistilBERT on the whole of IMDb" in text


def test_the_articles_numbers_stand_where_they_are_comparable() -> None:
    study = load_study(PARAMS)
    own = table_tex(summarise(study, make_records(study)[:20])).decode()
    assert [row.split(" & ")[-1] for row in rows(own)] == [
        r"86.22 \\",
        r"89.44 \\",
        r"92.39 \\",
        r"92.31 \\",
    ]
    assert "581 of 601 runs are missing" in own


@pytest.mark.fault(40)
def test_hostile_titles_stay_text() -> None:
    text = table_tex(summary(HOSTILE)).decode()
    assert r"\input" not in text
    assert (
        r"\textbackslash{}input\{/etc/passwd\} \$x\textasciicircum{}2\$ 100\% a\_b \& \#1" in text
    )


def test_a_diverged_method_has_dashes() -> None:
    study = make_study()
    records = [
        altered(record, train=None, val=None, test=None, status="diverged")
        for record in make_records(study)[:3]
    ]
    assert rows(table_tex(summarise(study, records)).decode())[0].count("--") == 6


def test_citations_name_article_study_and_version() -> None:
    text = citation_bib(make_study()).decode()
    assert text.count("@") == 2
    assert text.count("{") == text.count("}")
    assert "study minilm-small" in bibtex(make_study())


def compiled(folder: Path, table: bytes) -> str:
    """What LaTeX says of an article with ``table`` in it and nothing but the two packages that the
    table asks for.
    """
    document = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}%s\end{document}"
    (folder / "paper.tex").write_text(document % table.decode())
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex on this machine")
def test_it_compiles_on_one_page_and_fits_its_width(tmp_path: Path) -> None:
    study = load_study(PARAMS)
    told = compiled(tmp_path, table_tex(summarise(study, make_records(study))))
    assert "(1 page," in told
    assert "Overfull" not in told


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex on this machine")
@pytest.mark.parametrize(
    "title",
    [HOSTILE, r"\end{document} ^^5c ``?` !` -- --- ''", "“smart” — é \x00 漢 %", "\\", "{", "}}$$"],
)
def test_hostile_names_compile(tmp_path: Path, title: str) -> None:
    methods = {
        "_a__b.-c": make_study().methods["lora_default"],
        "last_layers": make_study().methods["last_layers"],
    }
    study = make_study(study="_x.y_1--2", title=title)
    study = study.model_copy(
        update={"methods": methods, "run": study.run.model_copy(update={"methods": list(methods)})}
    )
    assert "(1 page," in compiled(tmp_path, table_tex(summarise(study, [])))


@pytest.mark.skipif(shutil.which("bibtex") is None, reason="there is no bibtex on this machine")
def test_bibtex_reads_the_citations(tmp_path: Path) -> None:
    (tmp_path / "citation.bib").write_bytes(citation_bib(make_study(study="_x.y_1--2")))
    commands = (
        r"\relax",
        r"\citation{raschka2023codelora}",
        r"\citation{lora_replication}",
        r"\bibstyle{plain}",
        r"\bibdata{citation}",
    )
    (tmp_path / "paper.aux").write_text("\n".join(commands))
    done = subprocess.run(
        ["bibtex", "paper"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "paper.bbl").read_text().count(r"\bibitem") == 2
    assert "Raschka" in (tmp_path / "paper.bbl").read_text()
