"""The size and the shape that the project promises to keep; README states the same numbers."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "lora_replication"

BUDGET = {"src": 14_914, "tests": 16_301, "benchmarks": 2_210}
"""Lines of Python, blank ones and comments included; what changes may only lower these."""

MOST_MODULES = 99
LONGEST_FILE = 250
"""Lines of code: without blank lines, comments and docstrings."""


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def lines(file: Path) -> list[str]:
    return file.read_text("utf-8").splitlines()


@pytest.mark.parametrize(("folder", "most"), BUDGET.items())
def test_the_line_budget_is_kept_and_readme_states_it(folder, most):
    assert sum(len(lines(file)) for file in python_files(folder)) <= most
    assert f"{most:,}" in (ROOT / "README.md").read_text("utf-8")


def test_the_number_of_modules_is_kept_and_each_has_a_name_of_its_own():
    names = [file.stem for file in python_files("src") if file.name != "__init__.py"]
    assert len(python_files("src")) <= MOST_MODULES
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert f"{MOST_MODULES} modules" in (ROOT / "README.md").read_text("utf-8")


def code_lines(file: Path) -> int:
    """Lines that are neither blank nor a comment nor part of a docstring."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    numbered = enumerate(map(str.strip, lines(file)), 1)
    return sum(bool(line) and line[0] != "#" and n not in docstrings for n, line in numbered)


def test_no_file_is_too_long():
    files = [file for folder in BUDGET for file in python_files(folder)]
    assert {f.name: n for f in files if (n := code_lines(f)) > LONGEST_FILE} == {}


def imported(module: Path) -> set[str]:
    """The modules of the package that ``module`` imports when it is imported itself."""
    found = set()
    for node in ast.parse(module.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lora_replication"):
            for alias in node.names:
                inner = PACKAGE.parent.joinpath(*f"{node.module}.{alias.name}".split("."))
                is_module = inner.with_suffix(".py").is_file()
                found.add(f"{node.module}.{alias.name}" if is_module else str(node.module))
    return found


def test_imports_go_one_way():
    graph = {}
    for file in python_files("src"):
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        graph[name.removesuffix(".__init__")] = imported(file)
    assert graph["lora_replication.training.run"] >= {"lora_replication.record"}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_every_study_has_the_same_graph():
    graph = (ROOT / "dvc.yaml").read_text("utf-8")
    copies = sorted(ROOT.glob("studies/*/dvc.yaml"))
    assert len(copies) == len(list(ROOT.glob("studies/*/params.yaml")))
    assert {copy.read_text("utf-8") for copy in copies} == {graph}
    assert len(graph.splitlines()) <= 80
