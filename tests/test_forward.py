import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.padded import SameMasksClassifier
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import locate_encoder
from lora_replication.study import ModelParams
from lora_replication.training.batches import Batch, collate
from lora_replication.training.classifier import Classifier

CPU = torch.device("cpu")
ENCODERS = ["tiny-distilbert", "tiny-bert", "minilm"]
LENGTHS = (12, 31, 30, 7, 64, 64, 29, 9)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    draw = np.random.default_rng(1)
    return Tokens(
        draw.integers(5, 200, sum(LENGTHS)).astype(np.int32),
        np.cumsum([0, *LENGTHS]),
        draw.integers(0, 2, len(LENGTHS)),
    )


def classifier_of(name: str, settings, **changes) -> Classifier:
    return Classifier(
        locate_encoder(ModelParams(encoder=name, max_tokens=64)),
        settings(encoder=name, **changes),
        seed=1,
    )


def padded(tokens: Tokens, batch: Batch, length: int) -> dict[str, torch.Tensor]:
    """The same reviews as ``transformers`` wants them, all padded to ``length``."""
    ids, mask = (
        torch.zeros(len(batch.rows), length, dtype=torch.long),
        torch.zeros(len(batch.rows), length, dtype=torch.long),
    )
    for place, row in enumerate(batch.rows):
        own = tokens.ids[tokens.starts[row] : tokens.starts[row + 1]]
        ids[place, : len(own)], mask[place, : len(own)] = torch.from_numpy(own), 1
    return {"input_ids": ids, "attention_mask": mask}


def gradients(
    classifier: Classifier, logits: torch.Tensor, batch: Batch
) -> dict[str, torch.Tensor]:
    classifier.models[0].zero_grad()
    F.cross_entropy(logits, batch.labels).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in classifier.trainable().items()
        if parameter.grad is not None
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"trains": "head"},
        {"trains": "all"},
        {"lora": {"alpha": 1, "targets": ["query", "key", "projection", "mlp", "head"]}},
    ],
)
@pytest.mark.parametrize("name", ENCODERS)
def test_logits_and_gradients_are_those_of_the_padded_forward(name, changes, settings, tokens):
    classifier = classifier_of(name, settings, **changes)
    for parameter_name, parameter in classifier.models[0].named_parameters():
        if parameter_name.endswith(".B"):
            nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(1))
    batch = collate(tokens, np.arange(len(tokens)), CPU)
    ours = classifier.logits(batch)[0]
    own_gradients = gradients(classifier, ours, batch)
    classifier.models[0].eval()
    theirs = classifier.models[0](**padded(tokens, batch, 64)).logits
    their_gradients = gradients(classifier, theirs, batch)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert own_gradients.keys() == their_gradients.keys()
    assert own_gradients
    for parameter_name, gradient in own_gradients.items():
        assert torch.allclose(gradient, their_gradients[parameter_name], atol=1e-5), parameter_name


@pytest.mark.parametrize(
    "changes", [{"trains": "all"}, {"lora": {"targets": ["query", "value", "mlp"]}}]
)
@pytest.mark.parametrize("name", ["tiny-distilbert", "tiny-bert"])
def test_dropout_sits_where_transformers_has_it_when_training(name, changes, settings, tokens):
    """With our masks in place of its own, the model in training mode gives our logits and
    gradients: same places, same probabilities.
    """
    batch = collate(tokens, np.arange(len(tokens)), CPU)
    assert len(batch.groups) > 1
    answers = []
    for kind in (Classifier, SameMasksClassifier):
        classifier = kind(
            locate_encoder(ModelParams(encoder=name, max_tokens=64)),
            settings(encoder=name, **changes),
            1,
        )
        classifier.start_epoch(1)
        logits = classifier.logits(batch)[0]
        answers.append((logits, gradients(classifier, logits, batch)))
    (ours, own_gradients), (theirs, their_gradients) = answers
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert own_gradients.keys() == their_gradients.keys()
    assert own_gradients
    for parameter_name, gradient in own_gradients.items():
        assert torch.allclose(gradient, their_gradients[parameter_name], atol=1e-5), parameter_name


def test_evaluation_has_no_dropout_and_training_has(settings, tokens):
    classifier = classifier_of("tiny-distilbert", settings)
    batch = collate(tokens, np.arange(len(tokens)), CPU)
    quiet = classifier.logits(batch)
    classifier.start_epoch(1)
    first, second = classifier.logits(batch), classifier.logits(batch)
    assert not torch.equal(first, quiet)
    assert not torch.equal(first, second)
    classifier.stop_dropout()
    assert torch.equal(classifier.logits(batch), quiet)


def test_attention_with_dropout_has_the_expectation_of_attention_without(settings, tokens):
    forward = classifier_of("tiny-distilbert", settings)._forwards[0]
    query, key, value = torch.randn(
        3, 1, 1, 2, 16, 16, generator=torch.Generator().manual_seed(1)
    ).double()
    quiet = forward._attend(query, key, value, None)
    forward.dropout.start_epoch(1)
    draws = torch.stack([forward._attend(query, key, value, None) for _ in range(4000)])
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - quiet).abs() < 5 * error).all()
    weights = ((query / 4) @ key.transpose(-2, -1)).softmax(-1)
    variance = (weights**2) @ (value**2) * (0.1 / 0.9)
    assert torch.allclose(draws.var(0), variance, rtol=0.2)
