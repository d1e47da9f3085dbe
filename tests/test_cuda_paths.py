"""CUDA's own paths as far as a CPU goes: fused attention, ragged evaluation, replayed steps."""

import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import varlen
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from benchmarks.workload import review_lengths
from lora_replication.plan import method_run
from lora_replication.study import PLAIN, CudaParams
from lora_replication.training import batches, loop
from lora_replication.training.batches import collate
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.graphs import Replays
from lora_replication.training.loop import new_state, train_step
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests.training_runs import (
    CPU,
    KINDS,
    PowerCutError,
    close,
    encoder_of,
    epochs_of,
    fill_b,
    random_tokens,
    run_training,
    weights_of,
)

LENGTHS = np.random.default_rng(1).integers(3, 60, 36)
TOKENS = {"train": random_tokens(LENGTHS), "val": random_tokens(LENGTHS[:9], 2)}
ROUNDED = {"TOKENS_ROUNDED": 64, "LENGTH_ROUNDED": 16}
FUSED, RAGGED = CudaParams(fused_attention=True), CudaParams(ragged_evaluation=True)
GRAPHS = CudaParams(graphs=True)
LORA = {"rank": 2, "alpha": 4.0, "targets": ["query", "value"], "dropout": 0.1}
PACK = [LORA, LORA | {"rank": 3, "targets": ["key", "mlp"]}, LORA | {"targets": ["value", "head"]}]
CASES = [{"trains": "all"}, {"lora": LORA}, {"trains": "head"}]
Losses = list[list[float]]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Batches are rounded up less, and attend in more groups, as reviews are short here."""
    for name, value in {**ROUNDED, "SCORES_OF_A_GROUP": 1}.items():
        monkeypatch.setattr(batches, name, value)


@pytest.fixture
def pack(settings):
    """Settings of three configurations; one more than go through the encoder at once in fp32."""
    return [settings(lora=lora, learning_rate=1e-3, batch_size=6) for lora in PACK]


def made(asked: list[Any], cuda: CudaParams = PLAIN, kind: Any = "bert") -> Classifier:
    classifier = Classifier(encoder_of(kind), asked[0], 1, asked[1:], cuda=cuda)
    fill_b(classifier, 0.02)
    return classifier


def outcome(classifier: Classifier, *, rounded: bool = False) -> tuple[torch.Tensor, list[Any]]:
    """Logits of a batch, and all gradients of its loss."""
    batch = collate(TOKENS["train"], np.arange(12), CPU, rounded=rounded)
    logits = classifier.logits(batch)
    labels = batch.labels.repeat(len(logits))
    F.cross_entropy(logits.flatten(0, 1), labels).backward()
    trained = [classifier.trainable(index) for index in range(len(classifier.models))]
    return logits.detach(), [{name: p.grad for name, p in own.items()} for own in trained]


def assert_alike(one: Classifier, other: Classifier, **options: bool) -> None:
    (logits, gradients), (others, their) = outcome(one), outcome(other, **options)
    assert torch.allclose(logits, others, rtol=0, atol=1e-6)
    assert all(close(own, theirs, 1e-6) for own, theirs in zip(gradients, their, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", CASES)
def test_fused_attention_without_dropout_is_the_plain_one(settings, pack, changes, kind):
    for asked in ([settings(**changes)], pack):
        assert_alike(made(asked, kind=kind), made(asked, FUSED, kind))


def test_masks_of_fused_attention_are_those_of_seed_epoch_and_step(settings):
    classifier = made([settings(trains="all")], FUSED)
    forward = classifier._forwards[0]
    forward.hidden_dropout = forward.head_dropout = 0.0

    def drawn(epoch: int, steps: int) -> torch.Tensor:
        torch.rand(7)  # whatever else draws from the default generator
        classifier.start_epoch(epoch)
        for _ in range(steps):
            classifier.start_step()
        return outcome(classifier)[0]

    first, *others = [drawn(*each) for each in ((1, 1), (1, 2), (2, 1))]
    assert torch.equal(first, drawn(1, 1))
    assert not any(torch.equal(first, other) for other in others)


def test_the_mean_of_fused_dropouts_is_the_output_without(settings):
    classifier = made([settings(trains="all")], FUSED)
    forward = classifier._forwards[0]
    forward.attention_dropout = 0.3
    query, key, value = torch.randn(3, 1, 2, 2, 5, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])[:, None, None]
    plain = forward._attend(query, key, value, mask)
    classifier.start_epoch(1)
    draws = torch.stack([forward._attend(query, key, value, mask) for _ in range(4000)])
    assert (draws.std(0) > 0).all()
    assert ((draws.mean(0) - plain) / (draws.std(0) / 4000**0.5)).abs().max() < 5
    hidden = value.clone()
    hidden[:, 1, :, 3:] = 1e6
    assert forward._attend(query, key, hidden, mask)[0, 1].abs().max() < 100


@pytest.mark.parametrize("cuda", [FUSED, GRAPHS], ids=["fused", "graphs"])
def test_a_configuration_of_a_pack_is_that_one_alone(pack, tmp_path, cuda):
    """Masks are shared within a chunk and between chunks, in float64."""
    options = {"encoder": encoder_of("bert"), "double": True, "cuda": cuda}
    together, results = run_training(TOKENS, pack, tmp_path / "pack", **options)
    for index, own in enumerate(pack):
        alone, (result,) = run_training(TOKENS, [own], tmp_path / str(index), **options)
        assert close(weights_of(together, index), weights_of(alone), 1e-9)
        losses = [epoch.train_loss for epoch in result.epochs]
        assert losses == pytest.approx([e.train_loss for e in results[index].epochs], abs=1e-9)


@pytest.mark.parametrize("cuda", [FUSED, GRAPHS, CudaParams(fused_attention=True, graphs=True)])
@pytest.mark.parametrize("precision", ["fp32", "fp16-mixed"])
def test_an_interrupted_run_continues_to_the_bits_of_an_uninterrupted_one(
    pack, tmp_path, cuda, precision
):
    for each in (pack[:1], pack):
        asked = [own.model_copy(update={"precision": precision}) for own in each]
        whole, expected = run_training(TOKENS, asked, tmp_path / f"whole{len(asked)}", cuda=cuda)
        file = tmp_path / f"cut{len(asked)}"
        with pytest.raises(PowerCutError):
            run_training(TOKENS, asked, file, cuda=cuda, cut_after=1)
        resumed, results = run_training(TOKENS, asked, file, cuda=cuda)
        for index in range(len(asked)):
            assert close(weights_of(whole, index), weights_of(resumed, index), 0)
            assert epochs_of(expected[index]) == epochs_of(results[index])


def ragged(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
    """What torch documents for its ``varlen_attn``, of which a CPU has no kernel."""
    for bounds, longest in ((cu_seq_q, max_q), (cu_seq_k, max_k)):
        assert bounds.dtype == torch.int32
        assert int(bounds[0]) == 0
        assert int(bounds.diff().max()) == longest
    assert (int(cu_seq_q[-1]), int(cu_seq_k[-1])) == (len(query), len(key))
    assert query.dtype == key.dtype == value.dtype
    outputs = []
    for place in range(len(cu_seq_k) - 1):
        own, other = (slice(*ends[place : place + 2].tolist()) for ends in (cu_seq_q, cu_seq_k))
        q, k, v = (x.transpose(0, 1) for x in (query[own], key[other], value[other]))
        scores = q.double() @ k.double().transpose(1, 2) * query.shape[-1] ** -0.5
        outputs.append((scores.softmax(-1) @ v.double()).transpose(0, 1))
    return torch.cat(outputs).to(query.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_ragged_evaluation_gives_the_plain_logits(settings, pack, kind, monkeypatch):
    assert list(inspect.signature(varlen.varlen_attn).parameters)[:7] == list(
        inspect.signature(ragged).parameters
    )
    cases = [[settings(trains="ia3")], [settings(trains="head")], pack]
    with pytest.raises(NotImplementedError, match="CPU"):
        predict_logits(made(cases[0], RAGGED), TOKENS["val"])
    monkeypatch.setattr(varlen, "varlen_attn", ragged)
    for asked in cases:
        plain = predict_logits(made(asked, kind=kind), TOKENS["val"])
        own = made(asked, RAGGED, kind)
        assert np.allclose(predict_logits(own, TOKENS["val"]), plain, rtol=0, atol=1e-6)
        rounded = [each.model_copy(update={"precision": "bf16-mixed"}) for each in asked]
        found = predict_logits(made(rounded, RAGGED, kind), TOKENS["val"])
        assert np.allclose(found, plain, rtol=0, atol=0.05)
    monkeypatch.setattr(varlen, "varlen_attn", None)
    outcome(own)  # training has gradients, and does without


def test_one_group_of_attention_as_on_cuda_gives_the_same(pack, monkeypatch):
    several = outcome(made(pack))
    assert len(collate(TOKENS["train"], np.arange(12), CPU).groups) > 2
    monkeypatch.setattr(batches, "SLACK_ON_CPU", float("inf"))
    (group,) = collate(TOKENS["train"], np.arange(12), CPU).groups
    assert (group.reviews, group.length) == (slice(0, 12), max(LENGTHS[:12]))
    one = outcome(made(pack))
    assert torch.allclose(several[0], one[0], rtol=0, atol=1e-6)
    assert all(close(own, other, 1e-6) for own, other in zip(several[1], one[1], strict=True))


@pytest.mark.parametrize("changes", CASES)
def test_rounding_a_batch_up_changes_nothing(settings, pack, changes):
    batch = collate(TOKENS["train"], np.arange(12), CPU, rounded=True)
    (group,) = batch.groups
    assert (len(batch.ids) % 64, group.length % 16) == (0, 0)
    assert 0 < len(batch.ids) - LENGTHS[:12].sum() < 64
    assert int(group.mask.sum()) == LENGTHS[:12].sum()
    for asked in ([settings(**changes)], pack):
        assert_alike(made(asked), made(asked), rounded=True)


def test_batches_of_the_articles_size_have_few_sizes(monkeypatch):
    monkeypatch.undo()
    lengths = np.random.default_rng(1).permutation(review_lengths(6000))
    tokens, sizes = random_tokens(lengths), Counter[tuple[int, int]]()
    for rows in np.arange(6000).reshape(-1, 12):
        batch = collate(tokens, rows, CPU, rounded=True)
        sizes[len(batch.ids), batch.groups[0].length] += 1
    assert sum(times for _, times in sizes.most_common(8)) > 0.99 * 500


def taken(classifier: Classifier, *, quiet: bool = False, state_of: Any = new_state) -> Losses:
    """Losses of each configuration at each of 20 steps, on six reviews, now and then on three."""
    if not quiet:
        classifier.start_epoch(1)
    states = [state_of(classifier, index) for index in range(len(classifier.models))]
    rows = np.arange(36).reshape(6, 6)
    steps = [rows[step % 6] if step % 7 else rows[0][:3] for step in range(20)]
    found = [train_step(classifier, states, TOKENS["train"], each) for each in steps]
    assert all(0 <= int(n) <= 6 for _, correct in found for n in correct)
    return [losses.tolist() for losses, _ in found]


def test_twenty_replayed_steps_are_those_of_the_plain_loop(settings, pack, monkeypatch):
    for asked in ([settings(trains="all", learning_rate=1e-4)], pack[:1], pack):
        plain, replayed = taken(made(asked), quiet=True), taken(made(asked, GRAPHS), quiet=True)
        assert np.allclose(plain, replayed, rtol=0, atol=1e-5)
        both = taken(own := made(asked, GRAPHS))
        assert 1 < len(own.replays._known) < 6
        # The same rounded batches, each computed from its own memory, have the same masks.
        with monkeypatch.context() as patch:
            patch.setattr(loop, "collate", lambda *x, rounded: collate(*x, rounded=True))
            assert taken(made(asked)) == both


class Recorder(TorchDispatchMode):
    """Stands in for a CUDA graph: all that is computed, to be computed again in the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func, _types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "something was read back"
        result = func(*args, **(kwargs or {}))
        memory = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs or {}, result))
        self.calls.append((func, *memory))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            new = func(*args, **kwargs)
            for old, value in zip(tree_leaves(result), tree_leaves(new), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != value.data_ptr():
                    old.copy_(value)


@pytest.mark.parametrize(
    ("cuda", "precision", "quiet"),
    [(GRAPHS, "fp32", False), (GRAPHS, "fp16-mixed", True),
     (CudaParams(graphs=True, fused_attention=True), "fp32", False)],
)  # fmt: skip
def test_what_a_graph_replays_is_the_step(settings, pack, cuda, precision, quiet, monkeypatch):
    """Captured as on CUDA: without effect. Then the same operations on the same memory are all."""
    kept: list[Any] = []

    @contextmanager
    def capture(graph: Recorder, **_: object) -> Iterator[None]:
        places = [t for state in kept for t in memory(state)]
        before = [place.clone() for place in places]
        with torch.random.fork_rng(devices=[]), graph:
            yield
        for place, value in zip(places, before, strict=True):
            place.detach().copy_(value)

    def memory(state: loop.State) -> list[torch.Tensor]:
        moments = [t for own in state.optimizer.state.values() for t in own.values()]
        if state.scaler.is_enabled():
            moments += [state.scaler._scale, state.scaler._growth_tracker]
        return [*state.parameters.values(), *moments]

    def keep(*arguments: Any) -> loop.State:
        kept.append(new_state(*arguments))
        return kept[-1]

    stream = SimpleNamespace(wait_stream=lambda _other: None)
    fakes = {
        "CUDAGraph": Recorder, "graph": capture, "graph_pool_handle": lambda: None,
        "Stream": lambda: stream, "current_stream": lambda: stream, "stream": nullcontext,
    }  # fmt: skip
    for each in ([settings(trains="all", learning_rate=1e-4)], pack):
        asked = [own.model_copy(update={"precision": precision}) for own in each]
        plain = taken(made(asked, cuda), quiet=quiet)
        own = made(asked, cuda)
        if cuda.fused_attention and len(asked) > 1:
            assert own.replays is None  # what a pack shares can't be drawn in a graph
            continue
        kept.clear()
        with monkeypatch.context() as patch:
            for name, fake in fakes.items():
                patch.setattr(torch.cuda, name, fake)
            own.replays = Replays(own._dropouts, torch.device("cuda"))
            assert taken(own, quiet=quiet, state_of=keep) == plain
        replays = own.replays._known.values()
        assert sum(replay.captured is not None for replay in replays) > 2


def test_a_record_says_which_were_on_and_has_the_same_key(tiny_study, tiny_root, mirror):
    records = []
    for cuda in (PLAIN, CudaParams(fused_attention=True, graphs=True)):
        execution = tiny_study.execution.model_copy(update={"cuda": cuda})
        study = tiny_study.model_copy(update={"execution": execution})
        workspace = Workspace(study, tiny_root, f"runs-{len(records)}")
        records += perform(workspace, [method_run(workspace, "lora_default", 1)], mirror)
    plain, other = records
    assert other.where.cuda_paths == ["fused_attention", "graphs"]
    assert b"cuda_paths" not in plain.to_json()
    assert plain.asked == other.asked
    losses = [record.happened.epochs[-1].train_loss for record in records]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)
