from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_replication.encoders import locate_encoder
from lora_replication.study import ModelParams
from lora_replication.training import classifier as classifier_module
from lora_replication.training.batches import Batch, collate
from lora_replication.training.classifier import Classifier
from lora_replication.training.randomness import Dropout
from tests.training_runs import CPU, KINDS, encoder_of, fill_b, random_tokens, their_classifier

LENGTHS = (12, 31, 30, 7, 64, 64, 29, 9)
TOKENS = random_tokens(LENGTHS)
ALL = np.arange(len(LENGTHS))


def padded(batch: Batch, length: int) -> dict[str, torch.Tensor]:
    """The same reviews as ``transformers`` wants them, all padded to ``length``."""
    ids, mask = torch.zeros(2, len(batch.rows), length, dtype=torch.long)
    for index, row in enumerate(batch.rows):
        own = TOKENS.ids[TOKENS.starts[row] : TOKENS.starts[row + 1]]
        ids[index, : len(own)], mask[index, : len(own)] = torch.from_numpy(own), 1
    return {"input_ids": ids, "attention_mask": mask}


def gradients(
    classifier: Classifier, logits: torch.Tensor, batch: Batch
) -> dict[str, torch.Tensor]:
    classifier.models[0].zero_grad()
    F.cross_entropy(logits, batch.labels).backward()
    trained = classifier.trainable().items()
    return {name: p.grad.clone() for name, p in trained if p.grad is not None}


def assert_equal(ours, theirs, own_gradients, their_gradients):
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert own_gradients.keys() == their_gradients.keys()
    assert own_gradients
    for name, gradient in own_gradients.items():
        assert torch.allclose(gradient, their_gradients[name], atol=1e-5), name


@pytest.fixture
def their_layers(monkeypatch):
    """Classifiers are made of the layers of ``transformers``, which have a forward of their own."""
    monkeypatch.setattr(classifier_module, "load_classifier", their_classifier)


@pytest.mark.parametrize(
    "changes",
    [
        {"trains": "head"},
        {"trains": "all"},
        {"lora": {"alpha": 1, "targets": ["query", "key", "projection", "mlp", "head"]}},
    ],
)
@pytest.mark.parametrize("kind", [*KINDS, "minilm"])
def test_logits_and_gradients_are_those_of_the_padded_forward(
    kind, changes, settings, their_layers
):
    model = ModelParams(encoder="minilm", max_tokens=64)
    encoder = locate_encoder(model) if kind == "minilm" else encoder_of(kind)
    classifier = Classifier(encoder, settings(**changes), 1)
    fill_b(classifier, 0.02)
    batch = collate(TOKENS, ALL, CPU)
    ours = classifier.logits(batch)[0]
    own_gradients = gradients(classifier, ours, batch)
    classifier.models[0].eval()
    theirs = classifier.models[0](**padded(batch, 64)).logits
    assert_equal(ours, theirs, own_gradients, gradients(classifier, theirs, batch))


def with_our_masks(model: nn.Module, batch: Batch, drawn: list[tuple[float, Tensor]]) -> Tensor:
    """Logits of ``model`` in training mode on the padded batch, with the masks ``drawn`` for the
    ragged one in place of its own: same places, same probabilities, in the same order.
    """
    review = torch.repeat_interleave(
        torch.arange(len(batch.rows)),
        torch.diff(batch.first, append=torch.tensor([len(batch.ids)])),
    )

    def next_mask(p: float) -> Tensor:
        probability, mask = drawn.pop(0)
        assert probability == p
        return mask

    def replay(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        whole = torch.ones_like(x)
        if x.dim() == 4:  # weights of attention: (reviews, heads, queries, length), by groups
            for group in batch.groups:
                mask = next_mask(p)
                whole[group.reviews, :, : mask.shape[2], : group.length] = mask
        elif x.dim() == 2:  # the head's
            whole = next_mask(p)
        elif len(mask := next_mask(p)) == len(review):  # every token's
            whole[review, batch.positions] = mask
        else:  # the last layer's, of first tokens alone
            whole[:, 0] = mask
        return x * whole

    model.config._attn_implementation = "eager"  # scaled dot products draw where nothing reaches
    model.train()
    with (
        mock.patch.object(nn.Dropout, "forward", lambda self, x: replay(x, self.p)),
        mock.patch.object(F, "dropout", replay),
    ):
        logits = model(**padded(batch, max(LENGTHS))).logits
    assert drawn == []
    return logits


@pytest.mark.parametrize(
    "changes", [{"trains": "all"}, {"lora": {"targets": ["query", "value", "mlp"]}}]
)
@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_where_transformers_has_it_when_training(
    kind, changes, settings, monkeypatch, their_layers
):
    draw, drawn = Dropout.scaled_mask, []

    def keep(self: Dropout, shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
        drawn.append((probability, draw(self, shape, probability, dtype)))
        return drawn[-1][1]

    monkeypatch.setattr(Dropout, "scaled_mask", keep)
    batch = collate(TOKENS, ALL, CPU)
    assert len(batch.groups) > 1
    classifier = Classifier(encoder_of(kind), settings(**changes), 1)
    classifier.start_epoch(1)
    ours = classifier.logits(batch)[0]
    own_gradients = gradients(classifier, ours, batch)
    theirs = with_our_masks(classifier.models[0], batch, drawn)
    assert_equal(ours, theirs, own_gradients, gradients(classifier, theirs, batch))


def test_evaluation_has_no_dropout_and_training_has(settings):
    classifier = Classifier(encoder_of(), settings(), 1)
    batch = collate(TOKENS, ALL, CPU)
    quiet = classifier.logits(batch)
    classifier.start_epoch(1)
    first, second = classifier.logits(batch), classifier.logits(batch)
    assert not torch.equal(first, quiet)
    assert not torch.equal(first, second)
    classifier.stop_dropout()
    assert torch.equal(classifier.logits(batch), quiet)
