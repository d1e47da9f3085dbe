"""Properties that hold for whatever is drawn, besides those that stand with their modules."""

import io
from pathlib import Path

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lora_replication.data.reviews import PARTS, Review
from lora_replication.data.split import article_split
from lora_replication.errors import EnvironmentProblem, ParameterError
from lora_replication.files import write_whole
from lora_replication.reading import _plain_values
from lora_replication.study import ARTICLE_REVIEWS

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
SCALARS = st.one_of(
    st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.booleans(), st.none(), TEXT
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
CONTENT = st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), VALUES, max_size=6)


@pytest.mark.goal("property", "YAML as DVC reads it")
@settings(deadline=None)
@given(CONTENT)
@example({"_": "?0"})
def test_parameters_mean_to_us_what_they_mean_to_dvc(tmp_path_factory, content):
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(content, text)
    file = tmp_path_factory.mktemp("yaml") / "params.yaml"
    try:
        dvcs = parse_yaml(text.getvalue(), "params.yaml")
    except YAMLFileCorruptedError:  # the library can't read some texts as it writes them
        with pytest.raises(ParameterError, match=r"params\.yaml:\d+: not plain YAML"):
            _plain_values(text.getvalue(), file)
    else:
        assert _plain_values(text.getvalue(), file) == dvcs


@pytest.mark.goal("property", "splits are disjoint")
def test_the_split_puts_every_review_in_exactly_one_part(monkeypatch):
    """Of 50,000 numbered reviews, with the article's permutation."""
    from lora_replication.data import split

    reviews = [Review(str(number), number % 2) for number in range(50_000)]
    monkeypatch.setattr(split, "canonical_order", lambda given, _order: given)
    monkeypatch.setattr(split, "csv_digest", lambda _reviews: "")
    monkeypatch.setattr(split, "CSV_DIGESTS", dict.fromkeys(PARTS, ""))
    parts = article_split(reviews)
    assert {part: len(some) for part, some in parts.items()} == ARTICLE_REVIEWS
    numbers = sorted(int(review.text) for some in parts.values() for review in some)
    assert numbers == list(range(50_000))


@pytest.mark.fault(7)
@pytest.mark.goal("property", "a write is whole or not at all")
@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=5000),
    st.binary(max_size=5000),
    st.integers(0, 5000),
    st.sampled_from(["content", "sync", "chmod", "replace"]),
)
def test_a_write_that_fails_anywhere_leaves_the_old_content_or_the_new(
    tmp_path_factory, old, new, written, moment
):
    file = tmp_path_factory.mktemp("whole") / "file"
    write_whole(file, old)

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    def content(temporary: Path) -> None:
        temporary.write_bytes(new[:written] if moment == "content" else new)
        if moment == "content":
            fail()

    with pytest.MonkeyPatch.context() as patch, pytest.raises(EnvironmentProblem):
        if moment == "sync":
            patch.setattr("os.fsync", fail)
        elif moment != "content":
            patch.setattr(Path, moment, fail)
        write_whole(file, content)
    assert file.read_bytes() == old
    assert [left.name for left in file.parent.iterdir()] == ["file"]
    write_whole(file, content if moment != "content" else new)
    assert file.read_bytes() == new
