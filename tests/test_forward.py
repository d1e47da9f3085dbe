import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lora_replication.classifier import Classifier
from lora_replication.data.batches import Batch, collate
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import locate_encoder
from lora_replication.params import ModelParams
from lora_replication.randomness import Dropout

CPU = torch.device("cpu")
ENCODERS = ["tiny-distilbert", "tiny-bert", "minilm"]
LENGTHS = (12, 31, 30, 7, 64, 64, 29, 9)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    draw = np.random.default_rng(1)
    return Tokens(draw.integers(5, 200, sum(LENGTHS)).astype(np.int32), np.cumsum([0, *LENGTHS]), draw.integers(0, 2, len(LENGTHS)))


def classifier_of(name: str, settings, **changes) -> Classifier:
    return Classifier(locate_encoder(ModelParams(encoder=name, max_tokens=64)), settings(encoder=name, **changes), seed=1)


def padded(tokens: Tokens, batch: Batch, length: int) -> dict[str, torch.Tensor]:
    """The same reviews as ``transformers`` wants them, all padded to ``length``."""
    ids, mask = torch.zeros(len(batch.rows), length, dtype=torch.long), torch.zeros(len(batch.rows), length, dtype=torch.long)
    for place, row in enumerate(batch.rows):
        own = tokens.ids[tokens.starts[row] : tokens.starts[row + 1]]
        ids[place, : len(own)], mask[place, : len(own)] = torch.from_numpy(own), 1
    return {"input_ids": ids, "attention_mask": mask}


def gradients(classifier: Classifier, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
    classifier.models[0].zero_grad()
    F.cross_entropy(logits, batch.labels).backward()
    return {name: parameter.grad.clone() for name, parameter in classifier.trainable().items() if parameter.grad is not None}


@pytest.mark.parametrize(
    "changes", [{"trains": "head"}, {"trains": "all"}, {"lora": {"alpha": 1, "targets": ["query", "key", "projection", "mlp", "head"]}}]
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


class Recorder(Dropout):
    """Keeps the masks it draws, with their probabilities."""

    def __init__(self) -> None:
        super().__init__(1, "encoder", device=CPU)
        self.drawn: list[tuple[float, torch.Tensor]] = []

    def scaled_mask(self, shape, probability, dtype):
        mask = super().scaled_mask(shape, probability, dtype)
        self.drawn.append((probability, mask))
        return mask


@pytest.mark.parametrize("name", ["tiny-distilbert", "tiny-bert"])
def test_dropout_sits_where_transformers_has_it_when_training(name, settings, tokens, monkeypatch):
    """With our masks put in place of its own, the model in training mode gives our logits: same places, same probabilities."""
    classifier = classifier_of(name, settings, trains="all")
    recorder = Recorder()
    classifier._forwards[0].dropout = recorder
    recorder.start_epoch(1)
    batch = collate(tokens, np.array([1]), CPU)
    ours = classifier.logits(batch)[0]

    def replay(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        assert training
        probability, mask = recorder.drawn.pop(0)
        assert probability == p
        if mask.numel() == x.numel():
            return x * mask.view(x.shape)
        whole = torch.ones_like(x)  # of the last layer we compute the first token alone
        whole[..., :1, :] = mask if mask.dim() == x.dim() else mask[:, None]
        return x * whole

    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: replay(x, self.p, self.training))
    monkeypatch.setattr(F, "dropout", replay)
    classifier.models[0].config._attn_implementation = "eager"
    classifier.models[0].train()
    theirs = classifier.models[0](**padded(tokens, batch, LENGTHS[1])).logits
    assert recorder.drawn == []
    assert torch.allclose(ours, theirs, atol=1e-5)


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
    query, key, value = torch.randn(3, 1, 1, 2, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    quiet = forward._attend(query, key, value, None)
    forward.dropout.start_epoch(1)
    draws = torch.stack([forward._attend(query, key, value, None) for _ in range(4000)])
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - quiet).abs() < 5 * error).all()
    weights = ((query / 4) @ key.transpose(-2, -1)).softmax(-1)
    variance = (weights**2) @ (value**2) * (0.1 / 0.9)
    assert torch.allclose(draws.var(0), variance, rtol=0.2)
