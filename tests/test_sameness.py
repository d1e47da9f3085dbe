"""The benchmark that sets results of padded arithmetic beside ours: its padded runs are the same
experiment, its table says what came.
"""

import numpy as np
import pytest
import torch

from benchmarks import sameness, table
from benchmarks.padded import PaddedClassifier
from benchmarks.results import Results, SamenessResults, this_machine
from lora_replication.data.manifest import read_manifest, read_tokens
from lora_replication.encoders import locate_encoder
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.study import ModelParams
from lora_replication.training.batches import collate
from lora_replication.training.checkpoints import Training
from lora_replication.training.classifier import Classifier


@pytest.fixture(scope="module")
def tokens(tiny_data):
    folder = tiny_data / "data" / "tiny"
    return read_tokens(folder, "train", read_manifest(folder))


@pytest.mark.parametrize("name", ["tiny-distilbert", "tiny-bert"])
def test_the_padded_classifier_answers_alike_without_dropout_and_draws_its_own_with_it(
    name, settings, tokens
):
    encoder = locate_encoder(ModelParams(encoder=name, max_tokens=64))
    batch = collate(tokens, np.arange(12), torch.device("cpu"))
    padded = PaddedClassifier(encoder, settings(encoder=name, lora={}), 1)
    ours = Classifier(encoder, settings(encoder=name, lora={}), 1)
    padded.start_epoch(1)
    first = padded.logits(batch)
    assert not torch.equal(padded.logits(batch), first)
    padded.start_epoch(1)
    assert torch.equal(padded.logits(batch), first)
    padded.stop_dropout()
    assert torch.allclose(padded.logits(batch), ours.logits(batch), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-distilbert", "tiny-bert"])
def test_gradients_under_dropout_have_the_mean_and_variance_of_the_padded_ones(
    name, settings, tokens
):
    encoder = locate_encoder(ModelParams(encoder=name, max_tokens=64))
    batch = collate(tokens, np.arange(6), torch.device("cpu"))
    draws = 400

    def gradients(kind):
        classifier = kind(encoder, settings(encoder=name, lora=None, trains="all"), 1)
        classifier.start_epoch(1)
        weights = list(classifier.trainable().values())
        losses = (
            torch.nn.functional.cross_entropy(classifier.logits(batch)[0], batch.labels)
            for _ in range(draws)
        )
        return torch.stack(
            [
                torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
                for loss in losses
            ]
        )

    ours, padded = gradients(Classifier), gradients(PaddedClassifier)
    scatter, theirs = ours.var(0).sum(), padded.var(0).sum()
    # The squared distance of two means of the same distribution is, in expectation, the sum of the
    # variances over the number of draws.
    distance = (ours.mean(0) - padded.mean(0)).square().sum() / ((scatter + theirs) / draws)
    assert distance < 2
    assert scatter / theirs == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("masks", "name"), [("other", "tiny"), ("same", "tiny-same-masks")])
def test_both_arithmetics_are_trained_and_kept(tiny_study, tiny_root, tmp_path, masks, name):
    import yaml

    place = tmp_path / "bench"
    place.mkdir()
    begin, end = table.marks(SamenessResults)
    (place / "README.md").write_text(f"before\n{begin}old\n{end}\nafter\n")
    (tiny_root / "params.yaml").write_text(yaml.safe_dump(tiny_study.model_dump(mode="json")))
    sameness.main(
        [
            str(tiny_root),
            "--methods",
            "full",
            "last_layers",
            "--seeds",
            "1",
            "2",
            "--masks",
            masks,
            "--folder",
            str(place),
        ]
    )
    (results,) = SamenessResults.read_all(place / "results")
    assert Results.read_all(place / "results") == []
    assert (place / "results" / "sameness" / f"{results.machine.name}-{name}.json").is_file()
    assert (results.masks, results.seeds, results.reviews) == (masks, (1, 2), 24)
    assert list(results.padded) == list(results.ours) == ["full", "last_layers"]
    assert all(
        len(counts) == 2 for each in (results.padded, results.ours) for counts in each.values()
    )
    assert (results.padded == results.ours) or masks == "other"
    text = (place / "README.md").read_text()
    assert text == f"before\n{begin}{table.render([results])}{end}\nafter\n"
    assert f"{masks} masks of dropout" in text


@pytest.mark.parametrize(
    ("words", "precision"), [([], "fp32"), (["--precision", "bf16-mixed"], "bf16-mixed")]
)
def test_a_machine_may_compute_in_a_precision_of_its_own(
    tiny_study, tiny_root, monkeypatch, words, precision
):
    import yaml

    computed = set()
    monkeypatch.setattr(
        sameness, "_correct", lambda _bench, job, _kind: computed.add(job.settings.precision) or 1
    )
    monkeypatch.setattr(sameness, "show", lambda *_: None)
    (tiny_root / "params.yaml").write_text(yaml.safe_dump(tiny_study.model_dump(mode="json")))
    sameness.main([str(tiny_root), "--seeds", "1", *words])
    assert computed == {precision}


def test_runs_that_diverge_are_no_result(tiny_study, tiny_root, monkeypatch):
    import yaml

    monkeypatch.setattr(sameness, "train", lambda *_: [Training(diverged=True)])
    (tiny_root / "params.yaml").write_text(yaml.safe_dump(tiny_study.model_dump(mode="json")))
    with pytest.raises(IncompleteError, match="lora_default seed 7 diverged in PaddedClassifier"):
        sameness.main([str(tiny_root), "--seeds", "7"])


def test_dropout_of_lora_is_refused(tiny_study, tiny_root):
    import yaml

    content = tiny_study.model_dump(mode="json")
    content["methods"]["lora_default"]["lora"]["dropout"] = 0.1
    (tiny_root / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(
        ParameterError, match=r"methods\.lora_default\.lora\.dropout is 0\.1; allowed here: 0"
    ):
        sameness.main([str(tiny_root)])


def test_a_row_gives_the_mean_difference_its_interval_and_the_chance_of_more():
    results = SamenessResults(
        machine=this_machine("cpu"), versions={}, commit="c" * 40, changed=False, command="x", started="now", seconds=60.0, study="some",
        title="Some", seeds=(1, 2, 3), reviews=1000, padded={"full": (800, 810, 820)}, ours={"full": (810, 810, 820)},
    )  # fmt: skip
    row = table.render([results]).splitlines()[-1]
    # Differences 1, 0, 0 points: mean 1/3, standard error 1/3, t(0.975, 2) = 4.303; (1.5 - 1/3) /
    # (1/3) = 3.5, whose upper tail is 0.0364.
    assert (
        row
        == "| full | 1 to 3 | 81.00 (80.00 to 82.00) | 81.00 (81.00 to 82.00) | +0.33 (-1.10 to +1.77) | 0.036 |"
    )
