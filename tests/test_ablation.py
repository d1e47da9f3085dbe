"""The benchmark of each speed-up: what is taken away changes how a step is computed, not what it
computes.
"""

import numpy as np
import pytest
import torch

from benchmarks import ablation, table
from benchmarks.ablation import AS_IT_IS, SPEED_UPS, Step
from benchmarks.results import AblationResults
from benchmarks.workload import make_workload
from lora_replication.encoders import locate_encoder
from lora_replication.study import ModelParams
from lora_replication.training.batches import collate

SAME_LOGITS = [each for each in SPEED_UPS if "512" not in each.name]


@pytest.fixture
def step_of(settings):
    encoder = locate_encoder(ModelParams(encoder="tiny-distilbert", max_tokens=512))
    workload = make_workload(1, 12, 500)
    return lambda speed_up: Step(
        speed_up, encoder, settings(encoder="tiny-distilbert", lora={"alpha": 2}), workload
    )


@pytest.mark.parametrize("speed_up", SAME_LOGITS, ids=lambda each: each.name)
@pytest.mark.parametrize("dropout", [False, True])
def test_without_a_speed_up_logits_and_gradients_are_the_same(step_of, speed_up, dropout):
    def outcome(step):
        classifier, batch = step.classifier, collate(step.tokens, step.rows[0], torch.device("cpu"))
        if dropout:  # the way that training takes, but dropping nothing
            classifier.start_epoch(1)
            (forward,) = classifier._forwards
            forward.hidden_dropout = forward.attention_dropout = forward.head_dropout = 0.0
        logits = classifier.logits(batch)
        logits.square().sum().backward()
        return [logits.detach(), *(p.grad for p in classifier.trainable().values())]

    with speed_up.patched():
        without = outcome(step_of(speed_up))
    for own, other in zip(outcome(step_of(AS_IT_IS[0])), without, strict=True):
        assert torch.allclose(own, other, atol=1e-4)


def test_padding_is_as_many_reviews_of_512_tokens(step_of):
    step = step_of(next(each for each in SPEED_UPS if "512" in each.name))
    assert np.array_equal(step.tokens.lengths, np.full(12, 512))


def test_dropout_is_drawn_in_another_way(step_of):
    dropout = next(each for each in SPEED_UPS if each.name == "torch's own dropout")
    torch.manual_seed(1)
    step = step_of(dropout)
    step.classifier.start_epoch(1)
    batch = collate(step.tokens, step.rows[0], torch.device("cpu"))
    assert not torch.equal(step.classifier.logits(batch), step.classifier.logits(batch))
    x = torch.ones(1, 40_000)
    assert step.classifier._dropouts[0](x, 0.1).mean() == pytest.approx(1, abs=0.01)


def test_adam_goes_tensor_by_tensor(step_of):
    plain = next(each for each in SPEED_UPS if each.name.startswith("Adam"))
    assert step_of(AS_IT_IS[0]).state.optimizer.param_groups[0]["fused"]
    assert not step_of(plain).state.optimizer.param_groups[0]["fused"]


def test_every_speed_up_is_measured_beside_the_step_as_it_is(tmp_path):
    begin, end = table.marks(AblationResults)
    (tmp_path / "README.md").write_text(f"{begin}{end}\n")
    ablation.main(["--size", "tiny-bert", "--rounds", "1", "--folder", str(tmp_path)])
    (results,) = AblationResults.read_all(tmp_path / "results")
    measured = [each.name for each in SPEED_UPS if each.counts("cpu", results.precision)]
    assert [removal.name for removal in results.removals] == measured
    assert table.render([results]) in (tmp_path / "README.md").read_text()
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_what_makes_no_difference_is_not_measured():
    on_a_cpu = {
        "attention of a batch padded to its longest review",
        "random words by torch's generator",
    }
    in_mixed_precision = {"frozen weights rounded in every step"}
    assert {
        each.name for each in SPEED_UPS if not each.counts("cuda", "fp32")
    } == on_a_cpu | in_mixed_precision
    assert all(each.counts("cpu", "bf16-mixed") for each in SPEED_UPS)
