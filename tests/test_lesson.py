"""The lesson in docs/ runs, and prints what it shows."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

LESSON = Path(__file__).resolve().parents[1] / "docs" / "lesson.ipynb"


def test_the_lesson_prints_what_it_shows():
    cells = json.loads(LESSON.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 5
    names: dict[str, Any] = {}
    for cell in code:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec("".join(cell["source"]), names)  # noqa: S102  # our own notebook
        assert printed.getvalue() == "".join(cell["outputs"][0]["text"])
