"""The author's results file: strict reading, its facts, and mutated files."""

import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_replication.article.published_file import (
    PublishedCell,
    parse_published_grid,
    read_published_grid,
)
from lora_replication.errors import DataError
from tests.published_files import SPACE, made_up, text_of
from tests.study_files import read_params

RULE = "-" * 48
BLOCK = f"""{RULE}
lora_r: 8
lora_alpha: 1
lora_query: True
lora_key: False
lora_value: True
lora_projection: False
lora_mlp: True
lora_head: False
device: 2
verbose: False
Train acc: 96.22%
Val acc:   92.96%
Test acc:  92.39%
{RULE}
"""
CELLS = st.builds(
    lambda lora, train, val, test: PublishedCell(
        lora.rank, int(lora.alpha), lora.targets, train / 100, val / 50, test / 100
    ),
    st.sampled_from(SPACE),
    st.integers(0, 10_000),
    st.integers(0, 5_000),
    st.integers(0, 10_000),
)


def test_a_block_by_hand() -> None:
    grid = parse_published_grid(BLOCK.encode())
    (cell,) = grid.cells
    assert cell == PublishedCell(8, 1, ("query", "value", "mlp"), 96.22, 92.96, 92.39)
    assert (cell.name, cell.one_class) == ("r8-a1-query-value-mlp", False)
    assert (cell.val_correct, cell.test_correct) == (4648, 9239)
    assert len(grid.missing) == 575
    assert cell.name not in grid.missing


@pytest.mark.parametrize("accuracies", [("49.86", "50.84", "50.06"), ("50.14", "49.16", "49.94")])
def test_answering_one_class_is_recognised(accuracies: tuple[str, str, str]) -> None:
    text = BLOCK
    for old, new in zip(("96.22", "92.96", "92.39"), accuracies, strict=True):
        text = text.replace(old, new)
    assert parse_published_grid(text.encode()).cells[0].one_class
    assert (
        not parse_published_grid(text.replace(accuracies[2], "50.00").encode()).cells[0].one_class
    )


@pytest.mark.parametrize(
    "content",
    [
        BLOCK.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + BLOCK.encode(),
        BLOCK.rstrip("\n").encode(),
    ],
)
def test_windows_line_ends_a_byte_order_mark_and_no_last_line_end_are_accepted(
    content: bytes,
) -> None:
    assert parse_published_grid(content).cells == parse_published_grid(BLOCK.encode()).cells


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    read_params(Path(__file__).with_name("wrong_published.yaml")),
)
@pytest.mark.fault(41)
def test_anything_odd_is_refused_with_line_and_reason(
    old: str, new: str, line: int, reason: str
) -> None:
    with pytest.raises(
        DataError, match=rf"file.txt: line {line}: .*{reason}.*nothing was imported"
    ):
        parse_published_grid(BLOCK.replace(old, new).encode(), "file.txt")


@pytest.mark.fault(41)
def test_cut_empty_and_huge_files_are_refused() -> None:
    with pytest.raises(DataError, match="line 9: the file ends in the middle of a block"):
        parse_published_grid(("\n".join(BLOCK.splitlines()[:8]) + "\n").encode())
    with pytest.raises(DataError, match="line 16: '' is not"):
        parse_published_grid((BLOCK + "\n").encode())
    with pytest.raises(DataError, match="is empty"):
        parse_published_grid(b"")
    with pytest.raises(DataError, match="more than 4,000,000 bytes"):
        parse_published_grid(b"-" * 10_000_000)
    with pytest.raises(DataError, match="line 9"):
        parse_published_grid(("\n".join(BLOCK.splitlines()[:8]) + "\n" + BLOCK).encode())
    assert DataError.exit_code == 3


def test_an_equal_repeat_is_named_and_left_out_and_another_result_is_kept() -> None:
    other = BLOCK.replace("92.39%", "92.28%")
    grid = parse_published_grid((BLOCK + other + BLOCK + other).encode())
    assert [cell.test_percent for cell in grid.cells] == [92.39]
    assert [cell.test_percent for cell in grid.replicates] == [92.28]
    assert grid.repeated == ("r8-a1-query-value-mlp",) * 2
    assert len(grid.missing) == 575


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: can't be read"):
        read_published_grid(tmp_path / "none.txt")


@settings(max_examples=300, deadline=None)
@given(st.lists(CELLS, max_size=8, unique_by=lambda cell: cell.name).filter(bool))
@pytest.mark.goal("property", "results file round trip")
def test_what_is_written_is_read(cells: list[PublishedCell]) -> None:
    assert list(parse_published_grid(text_of(cells)).cells) == cells


def _mutated(content: bytes, generator: random.Random) -> bytes:
    """``content`` with one to four small or large accidents."""
    for _ in range(generator.randint(1, 4)):
        at, to = sorted(generator.randrange(len(content) + 1) for _ in range(2))
        odd = generator.choice([b"\r", b"\n", b"\x00", b"NaN", b"1", b"-", b"9" * 500])
        lines = content.split(b"\n")
        generator.shuffle(lines)
        content = generator.choice(
            [
                content[:at] + bytes([generator.randrange(256)]) + content[at + 1 :],
                content[:at] + content[at + 1 :],
                content[:at] + odd + content[at:],
                content[:at] + content[to:],
                content[:to] + content[at:to] + content[to:],
                content[:at],
                b"\n".join(lines),
                content.replace(b"\n", b"\r\n"),
            ]
        )
        content = content or b"\n"
    return content


def _plain(content: bytes) -> bytes:
    """Without what is not kept: a byte-order mark, Windows line ends, device and verbose."""
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip(b"\n")
    return re.sub(rb"(?m)^(device|verbose): .*$", rb"\1", text)


def test_a_carriage_return_alone_ends_no_line() -> None:
    whole = text_of(made_up(1)).rstrip(b"\n")
    with pytest.raises(DataError, match="line 15"):
        parse_published_grid(whole + b"\r")


@settings(max_examples=3_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_mutated_files_give_an_error_or_rows_that_are_in_them(seed: int, count: int) -> None:
    mutated = _mutated(text_of(made_up(count)), random.Random(seed))  # noqa: S311  # accidents, no secrets
    try:
        grid = parse_published_grid(mutated)
    except DataError:
        return
    blocks = re.findall(rb"(?s)-{48}\n.*?-{48}", _plain(mutated))
    kept = [_plain(text_of([cell])) for cell in (*grid.cells, *grid.replicates)]
    assert b"\n".join(blocks) == _plain(mutated)
    assert set(kept) == set(blocks)
    assert len(kept) + len(grid.repeated) == len(blocks)


@pytest.mark.skipif(
    "STUDIO_RESULTS" not in os.environ,
    reason="STUDIO_RESULTS does not name the results file published with the article",
)
def test_the_authors_own_file() -> None:
    grid = read_published_grid(Path(os.environ["STUDIO_RESULTS"]))
    assert len(grid.cells) == 570
    rests = ("mlp", "mlp-head", "projection", "projection-head", "projection-mlp",
             "projection-mlp-head")  # fmt: skip
    assert grid.missing == tuple(f"r32-a64-query-key-value-{rest}" for rest in rests)
    assert sum(cell.one_class for cell in grid.cells) == 183
    own = Path(os.environ["STUDIO_RESULTS"]).read_bytes()
    assert _plain(text_of(list(grid.cells))) == _plain(own)
