"""CUDA's own paths as far as a CPU goes: fused attention, ragged evaluation, replayed steps."""

import inspect
from collections import Counter
from contextlib import contextmanager, nullcontext
from functools import partial
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
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.graphs import Replays
from lora_replication.training.loop import new_state, train_step
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests import training_runs as runs
from tests.training_runs import CPU, KINDS, close, encoder_of, random_tokens, run_training

LENGTHS = np.random.default_rng(1).integers(3, 60, 36)
TOKENS = {"train": random_tokens(LENGTHS), "val": random_tokens(LENGTHS[:9], 2)}
FUSED, RAGGED = CudaParams(fused_attention=True), CudaParams(ragged_evaluation=True)
GRAPHS, BOTH = CudaParams(graphs=True), CudaParams(graphs=True, fused_attention=True)
LORA = {"rank": 2, "alpha": 4.0, "targets": ["query", "value"], "dropout": 0.1}
PACK = [LORA, LORA | {"rank": 3, "targets": ["key", "mlp"]}, LORA | {"targets": ["value", "head"]}]
collate = partial(batches.collate, TOKENS["train"], np.arange(12), CPU)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """As reviews are short here, batches are rounded up less and attend in more groups."""
    for name, value in {"TOKENS_ROUNDED": 64, "LENGTH_ROUNDED": 16, "SCORES_OF_A_GROUP": 1}.items():
        monkeypatch.setattr(batches, name, value)


@pytest.fixture
def packs(settings):
    """A pack of three, one more than go through the encoder at once, and two runs alone."""
    full = [settings(trains="all", learning_rate=1e-4, batch_size=6)]
    pack = [settings(lora=lora, learning_rate=1e-3, batch_size=6) for lora in PACK]
    return full, pack, [settings(trains="head", learning_rate=1e-3, batch_size=6)]


def made(asked, cuda=PLAIN, kind="bert", **changes):
    first, *others = [own.model_copy(update=changes) for own in asked]
    classifier = Classifier(encoder_of(kind), first, 1, others, cuda=cuda)
    runs.fill_b(classifier, 0.02)
    return classifier


def assert_alike(one, other, others=None):
    """Logits of a batch, and all gradients, are those of the ``others`` of the same reviews."""
    found = []
    for classifier, batch in ((one, collate()), (other, others or collate())):
        logits = classifier.logits(batch)
        labels = batch.labels.repeat(len(logits))
        F.cross_entropy(logits.flatten(0, 1), labels).backward()
        trained = [classifier.trainable(index) for index in range(len(classifier.models))]
        gradients = {(i, name): p.grad for i, own in enumerate(trained) for name, p in own.items()}
        found.append(gradients | {"logits": logits.detach()})
    assert close(*found, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_fused_attention_without_dropout_is_the_plain_one(packs, kind):
    for asked in packs:
        assert_alike(made(asked, kind=kind), made(asked, FUSED, kind))


def test_masks_of_fused_attention_are_those_of_a_step_and_their_mean_is_without(packs):
    classifier = made(packs[0], FUSED)
    forward = classifier._forwards[0]
    forward.attention_dropout = 0.3
    inputs = torch.randn(3, 1, 2, 2, 5, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])[:, None, None]
    attend = partial(forward._attend, *inputs, mask)
    plain = attend()

    def drawn(epoch, steps):
        torch.rand(7)  # whatever else draws from the default generator
        classifier.start_epoch(epoch)
        for _ in range(steps):
            classifier.start_step()
        return attend()

    first, *others = [drawn(*each) for each in ((1, 1), (1, 2), (2, 1))]
    assert torch.equal(first, drawn(1, 1))
    assert not any(torch.equal(first, other) for other in others)
    draws = torch.stack([attend() for _ in range(4000)])
    assert ((draws.mean(0) - plain) / (draws.std(0) / 4000**0.5)).abs().max() < 5


@pytest.mark.parametrize("cuda", [FUSED, GRAPHS, BOTH])
def test_a_configuration_of_a_pack_is_that_one_alone(packs, tmp_path, cuda):
    """In float64: masks are shared within a chunk and between chunks."""
    options = {"encoder": encoder_of("bert"), "double": True, "cuda": cuda}
    together, _ = run_training(TOKENS, packs[1], tmp_path / "pack", **options)
    for index, own in enumerate(packs[1]):
        alone, _ = run_training(TOKENS, [own], tmp_path / str(index), **options)
        assert close(runs.weights_of(together, index), runs.weights_of(alone), 1e-9)


@pytest.mark.parametrize("cuda", [FUSED, GRAPHS, BOTH])
@pytest.mark.parametrize("precision", ["fp32", "fp16-mixed"])
def test_an_interrupted_run_continues_to_the_bits_of_an_uninterrupted_one(
    packs, tmp_path, cuda, precision
):
    for place, each in enumerate(packs[:2]):
        asked = [own.model_copy(update={"precision": precision}) for own in each]
        whole, expected = run_training(TOKENS, asked, tmp_path / f"whole {place}", cuda=cuda)
        with pytest.raises(runs.PowerCutError):
            run_training(TOKENS, asked, tmp_path / f"cut {place}", cuda=cuda, cut_after=1)
        resumed, results = run_training(TOKENS, asked, tmp_path / f"cut {place}", cuda=cuda)
        assert list(map(runs.epochs_of, expected)) == list(map(runs.epochs_of, results))
        for index in range(len(asked)):
            assert close(runs.weights_of(whole, index), runs.weights_of(resumed, index), 0)


def ragged(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
    """What torch documents for its ``varlen_attn``, of which a CPU has no kernel."""
    for bounds, longest, x in ((cu_seq_q, max_q, query), (cu_seq_k, max_k, key)):
        assert (bounds.dtype, x.dtype) == (torch.int32, value.dtype)
        assert (int(bounds[0]), int(bounds.diff().max()), int(bounds[-1])) == (0, longest, len(x))
    outputs = []
    for place in range(len(cu_seq_k) - 1):
        own, other = (slice(*ends[place : place + 2].tolist()) for ends in (cu_seq_q, cu_seq_k))
        q, k, v = (x.transpose(0, 1).double() for x in (query[own], key[other], value[other]))
        weights = (q @ k.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(-1)
        outputs.append((weights @ v).transpose(0, 1))
    return torch.cat(outputs).to(query.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_ragged_evaluation_gives_the_plain_logits(settings, packs, kind, monkeypatch):
    names, ours = (list(inspect.signature(f).parameters) for f in (varlen.varlen_attn, ragged))
    assert names[:7] == ours
    with pytest.raises(NotImplementedError, match="CPU"):
        predict_logits(made(packs[0], RAGGED), TOKENS["val"])
    monkeypatch.setattr(varlen, "varlen_attn", ragged)
    for asked in (*packs, [settings(trains="ia3")]):
        plain = predict_logits(made(asked, kind=kind), TOKENS["val"])
        found = predict_logits(made(asked, RAGGED, kind), TOKENS["val"])
        assert np.allclose(found, plain, rtol=0, atol=1e-6)
        halves = predict_logits(made(asked, RAGGED, kind, precision="bf16-mixed"), TOKENS["val"])
        assert np.allclose(halves, plain, rtol=0, atol=0.05)
    monkeypatch.setattr(varlen, "varlen_attn", None)
    assert_alike(made(packs[1]), made(packs[1], RAGGED))  # what trains has gradients


def test_one_group_of_attention_as_on_cuda_gives_the_same(packs, monkeypatch):
    several = collate()
    monkeypatch.setattr(batches, "SLACK_ON_CPU", float("inf"))
    (group,) = collate().groups
    assert (group.reviews, group.length) == (slice(0, 12), max(LENGTHS[:12]))
    assert len(several.groups) > 2
    assert_alike(made(packs[1]), made(packs[1]), several)


def test_rounding_a_batch_up_changes_nothing(packs):
    batch, real = collate(rounded=True), LENGTHS[:12].sum()
    (group,) = batch.groups
    assert (len(batch.ids), group.length) == (-(-real // 64) * 64, 64)
    assert group.length > LENGTHS[:12].max()
    assert int(group.mask.sum()) == real < len(batch.ids)
    for asked in packs:
        assert_alike(made(asked), made(asked), batch)


def test_batches_of_the_articles_size_have_few_sizes(monkeypatch):
    monkeypatch.undo()
    tokens = random_tokens(np.random.default_rng(1).permutation(review_lengths(6000)))
    sizes = Counter()
    for rows in np.arange(6000).reshape(-1, 12):
        batch = batches.collate(tokens, rows, CPU, rounded=True)
        sizes[len(batch.ids), batch.groups[0].length] += 1
    assert sum(times for _, times in sizes.most_common(8)) > 0.99 * 500


def taken(classifier, *, quiet=False, state_of=new_state):
    """Losses of each configuration at each of 20 steps, on six reviews, now and then on three."""
    if not quiet:
        classifier.start_epoch(1)
    states = [state_of(classifier, index) for index in range(len(classifier.models))]
    rows = np.arange(36).reshape(6, 6)
    steps = [rows[step % 6] if step % 7 else rows[0][:3] for step in range(20)]
    found = [train_step(classifier, states, TOKENS["train"], each) for each in steps]
    assert all(0 <= int(n) <= 6 for _, correct in found for n in correct)
    return [losses.tolist() for losses, _ in found]


def test_twenty_replayed_steps_are_those_of_the_plain_loop(packs, monkeypatch):
    for asked in packs:
        plain, replayed = taken(made(asked), quiet=True), taken(made(asked, GRAPHS), quiet=True)
        assert np.allclose(plain, replayed, rtol=0, atol=1e-5)
        both = taken(own := made(asked, GRAPHS))
        assert 1 < len(own.replays._known) < 6
        # The same rounded batches, each computed from its own memory, have the same masks.
        with monkeypatch.context() as patch:
            patch.setattr(loop, "collate", lambda *x, **_: batches.collate(*x, rounded=True))
            assert taken(made(asked)) == both


class Recorder(TorchDispatchMode):
    """Stands in for a CUDA graph: all that is computed, to be computed again in the same memory."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, _types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "something was read back"
        result = func(*args, **(kwargs or {}))
        memory = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs or {}, result))
        self.calls.append((func, *memory))
        return result

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, result in self.calls:
            new = func(*args, **kwargs)
            for old, value in zip(tree_leaves(result), tree_leaves(new), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != value.data_ptr():
                    old.copy_(value)


def memory(state: Any) -> list[torch.Tensor]:
    """Where a state's weights, Adam's moments and the gradient scaler's numbers are."""
    moments = [t for own in state.optimizer.state.values() for t in own.values()]
    scaler = (
        [state.scaler._scale, state.scaler._growth_tracker] if state.scaler.is_enabled() else []
    )
    return [*state.parameters.values(), *moments, *scaler]


@pytest.mark.parametrize(
    ("cuda", "precision", "quiet"),
    [(GRAPHS, "fp32", False), (GRAPHS, "fp16-mixed", True), (BOTH, "fp32", False)],
)
def test_what_a_graph_replays_is_the_step(packs, cuda, precision, quiet, monkeypatch):
    """Captured as on CUDA: without effect. Then the same operations on the same memory are all."""
    states = []

    def keep(*arguments):
        states.append(new_state(*arguments))
        return states[-1]

    @contextmanager
    def capture(graph, **_options):
        before = [(place, place.clone()) for state in states for place in memory(state)]
        with torch.random.fork_rng(devices=[]), graph:
            yield
        for place, value in before:
            place.detach().copy_(value)

    stream = SimpleNamespace(wait_stream=lambda _other: None)
    fakes = {
        "CUDAGraph": Recorder, "graph": capture, "graph_pool_handle": lambda: None,
        "Stream": lambda: stream, "current_stream": lambda: stream, "stream": nullcontext,
    }  # fmt: skip
    # What a pack shares fused kernels draw again, so that one is not captured.
    for asked in packs[:1] if cuda == BOTH else packs[:2]:
        plain = taken(made(asked, cuda, precision=precision), quiet=quiet)
        own = made(asked, cuda, precision=precision)
        states.clear()
        with monkeypatch.context() as patch:
            for name, fake in fakes.items():
                patch.setattr(torch.cuda, name, fake)
            own.replays = Replays(own._dropouts, captured=True)
            assert taken(own, quiet=quiet, state_of=keep) == plain
        captured = [replay.captured for replay in own.replays._known.values()]
        assert sum(each is not None for each in captured) > 2


def test_a_record_says_which_were_on_and_has_the_same_key(tiny_study, tiny_root, mirror):
    records = []
    for cuda in (PLAIN, BOTH):
        execution = tiny_study.execution.model_copy(update={"cuda": cuda})
        study = tiny_study.model_copy(update={"execution": execution})
        workspace = Workspace(study, tiny_root, f"runs-{len(records)}")
        records += perform(workspace, [method_run(workspace, "lora_default", 1)], mirror)
    assert records[0].asked == records[1].asked
    assert b"cuda_paths" not in records[0].to_json()
    assert records[1].where.cuda_paths == ["fused_attention", "graphs"]
    losses = [record.happened.epochs[-1].train_loss for record in records]
    assert losses[0] != losses[1] == pytest.approx(losses[0], abs=0.1)
