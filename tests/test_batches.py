import numpy as np
import pytest
import torch

from lora_replication.data.tokens import Tokens
from lora_replication.training.batches import collate, evaluation_rows, training_rows

CPU = torch.device("cpu")


def tokens_of(*lengths: int) -> Tokens:
    """Review i holds the ids 100 i + 1, 100 i + 2, ...; its label is i % 2."""
    ids = np.concatenate([100 * i + 1 + np.arange(n) for i, n in enumerate(lengths)])
    return Tokens(ids.astype(np.int32), np.cumsum([0, *lengths]), np.arange(len(lengths)) % 2)


def test_an_epoch_trains_on_every_review_once_in_an_order_of_its_seed():
    rows = training_rows(25, 12, torch.Generator().manual_seed(1))
    assert [len(batch) for batch in rows] == [12, 12, 1]
    assert sorted(np.concatenate(rows)) == list(range(25))
    again = training_rows(25, 12, torch.Generator().manual_seed(1))
    other = training_rows(25, 12, torch.Generator().manual_seed(2))
    assert np.array_equal(np.concatenate(rows), np.concatenate(again))
    assert not np.array_equal(np.concatenate(rows), np.concatenate(other))


def test_evaluation_batches_keep_the_budget_and_cover_every_review():
    tokens = tokens_of(5, 3, 9, 3, 20, 4)
    batches = [batch.tolist() for batch in evaluation_rows(tokens, 10)]
    # 3 + 3 + 4, 5, 9, and 20 alone above the budget.
    assert batches == [[1, 3, 5], [0], [2], [4]]


def test_a_batch_by_hand():
    batch = collate(tokens_of(2, 4, 3), np.array([1, 0, 2]), CPU)
    assert batch.rows.tolist() == [0, 2, 1]
    assert batch.ids.tolist() == [1, 2, 201, 202, 203, 101, 102, 103, 104]
    assert batch.positions.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert batch.first.tolist() == [0, 2, 5]
    assert batch.labels.tolist() == [0, 0, 1]


def test_groups_pad_little_and_cover_the_batch_in_order():
    # 10, 10 and 11 fit: 3 * 121 = 363 scores for 321 needed. 80 would make it 4 * 6400 for 6721:
    # more than that and 4096, the cost of another group.
    batch = collate(tokens_of(80, 10, 11, 10), np.arange(4), CPU)
    assert [(group.reviews, group.tokens, group.length) for group in batch.groups] == [
        (slice(0, 3), slice(0, 31), 11),
        (slice(3, 4), slice(31, 111), 80),
    ]
    assert batch.groups[1].mask is None


def test_gather_pads_with_the_reviews_own_tokens_and_scatter_is_its_inverse():
    batch = collate(tokens_of(10, 11, 10), np.arange(3), CPU)
    (group,) = batch.groups
    padded = batch.ids[group.tokens][group.gather].view(3, 11)
    assert torch.equal(padded.flatten()[group.scatter], batch.ids)
    assert group.mask.view(3, 11).sum(1).tolist() == [10, 10, 11]
    assert padded[0, 10] == padded[0, 0]


@pytest.mark.parametrize("lengths", [(7,), (7, 7, 7)])
def test_equal_lengths_need_no_padding(lengths):
    (group,) = collate(tokens_of(*lengths), np.arange(len(lengths)), CPU).groups
    assert (group.gather, group.scatter, group.mask) == (None, None, None)
