"""What the benchmark gives its contenders to do, and the operations counted for it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench import cases_of
from benchmarks.flops import empty_model, needed_flops
from benchmarks.workload import (
    LENGTHS,
    batch_rows,
    make_workload,
    mean_tokens,
    quantiles,
    review_lengths,
)
from lora_replication.encoders import locate_encoder
from lora_replication.study import ModelParams
from tests.tiny_encoders import tiny_model


def test_lengths_are_imdbs():
    """Facts of the data: mean 273, median 231, 14.5 % cut at 512."""
    lengths = review_lengths(1000)
    assert mean_tokens() == pytest.approx(273, abs=1)
    assert np.median(lengths) == pytest.approx(231, abs=1)
    assert (lengths == 512).mean() == pytest.approx(0.145, abs=0.005)
    assert np.array_equal(review_lengths(200), json.loads(LENGTHS.read_text())["quantiles"])
    assert quantiles(np.arange(1, 101), 4) == [13, 38, 63, 88]


@pytest.mark.slow
@pytest.mark.reviews
@pytest.mark.skipif("IMDB_ARCHIVE" not in os.environ, reason="IMDB_ARCHIVE names no archive")
def test_the_table_of_lengths_is_that_of_the_archive():
    from lora_replication.data.imdb import read_archive
    from lora_replication.data.tokens import load_tokenizer, tokenise

    texts = [review.text for review in read_archive(Path(os.environ["IMDB_ARCHIVE"])).reviews]
    encoder = locate_encoder(ModelParams(encoder="minilm", max_tokens=512))
    tokens, _ = tokenise(texts, [0] * len(texts), load_tokenizer(encoder.vocabulary, 512))
    assert quantiles(tokens.lengths, 200) == json.loads(LENGTHS.read_text())["quantiles"]


def needed(method, *, training):
    """Operations for reviews of 3 and 5 tokens (n = 8, 34 squares) on the tiny DistilBERT: width
    32, MLP 64, 2 layers.
    """
    model = ModelParams(**tiny_model())
    (*_, case) = cases_of("tiny", model, "cpu", "fp32", method)
    encoder, lengths = locate_encoder(model), np.array([3, 5])
    network, layout = empty_model(encoder), encoder.layout
    return needed_flops(network, layout, case.settings[0], lengths, training=training)


SQUARE, MLP = 2 * 32 * 32, 2 * 32 * 64  # operations for one row
# First layer: 4 square products and 2 of the MLP for 8 tokens. Last: key and value for 8, the other
# two and the MLP for 2.
FIRST, LAST = 8 * (4 * SQUARE + 2 * MLP), 8 * 2 * SQUARE + 2 * (2 * SQUARE + 2 * MLP)
ATTENTION = 4 * 32 * (34 + 8)  # scores and context; the last layer asks once for each review
HEAD = 2 * (SQUARE + 2 * 32 * 2)
FORWARD = FIRST + LAST + ATTENTION + HEAD


def test_operations_by_hand():
    assert needed("full", training=False) == FORWARD
    assert needed("full", training=True) == 3 * FORWARD
    # Weights' gradients of both linears of the head, the input's gradient of the second.
    assert needed("last_layers", training=True) == FORWARD + HEAD + 2 * 2 * 32 * 2
    # Rank 8: one row through A and through B; query and value of the first layer; query of the last
    # for the first tokens, its value.
    a, b, rows = 2 * 8 * 32, 2 * 8 * 32, 8 + 8 + 2 + 8
    forward = FORWARD + rows * (a + b)
    assert needed("lora_default", training=False) == forward
    # Back through the frozen linears once, but not below the first query, key and value; through
    # the attention twice; for A and B their own gradients and that of what lies between; the
    # input's in the last layer alone.
    frozen = FIRST - 8 * 3 * SQUARE + LAST + 2 * ATTENTION + HEAD
    back = frozen + rows * (a + 2 * b) + (2 + 8) * a
    assert needed("lora_default", training=True) == forward + back


def test_random_and_grouped_batches_have_the_same_lengths_in_other_company():
    batches = 50
    workload = make_workload(batches, 30522)

    def padding(tokens):
        longest = [tokens.lengths[rows].max() for rows in batch_rows(tokens)]
        return 12 * sum(longest) / len(tokens.ids)

    random, grouped = workload
    assert len(random) == len(grouped) == 12 * batches
    assert random.lengths.mean() == pytest.approx(mean_tokens(), rel=0.005)
    assert grouped.lengths.mean() == pytest.approx(mean_tokens(), rel=0.05)
    assert padding(grouped) < 1.05
    assert padding(random) > 1.5
    assert random.ids[random.starts[:-1]].tolist() == [101] * 12 * batches
    words = np.delete(random.ids, [*random.starts[:-1], *(random.starts[1:] - 1)])
    assert words.min() >= 1000
    make_workload.cache_clear()
    assert np.array_equal(random.ids, make_workload(batches, 30522)[0].ids)
