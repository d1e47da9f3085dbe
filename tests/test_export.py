"""What is exported computes the same elsewhere, and what is imported the same here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from ruamel.yaml import YAML
from safetensors.torch import save_file

from lora_replication.adapter import Base, Description
from lora_replication.cli import cli
from lora_replication.data.tokens import load_tokenizer, tokenise
from lora_replication.errors import DataError, ParameterError
from lora_replication.export import export_run, import_adapter
from lora_replication.files import file_digest
from lora_replication.predict import find_trained
from lora_replication.record import ADAPTER
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.methods.registry import method_of
from tests.study_files import read_params
from tests.test_methods import CODE
from tests.training_runs import KINDS, encoder_of

TEXT = "A fine film: Café CROWDS, 3.5 stars, and unbelievably well-acted! " * 6
CLASSES = ("bad", "good")
CASES = read_params(Path(__file__).with_name("exported.yaml"))
FILES = {
    "lora_xs.py": CODE,
    "doubled.py": CODE.replace('LoRA-XS"', 'Doubled"')
    .replace(
        "(site.linear, site.dropout)",
        "(copy.deepcopy(site.linear), site.dropout)\n        self.linear.weight.data *= 2",
    )
    .replace("import torch", "import copy\n\nimport torch", 1),
}
ONLY_MERGED = {
    "all": "all layers", "bitfit": "all biases", "dora_of_inputs": "DoRA, axis input",
    "file_with_other_weights": "Doubled",
}  # fmt: skip
"""And how they are called."""
PLAIN_LORA = ("pissa", "vera", "file")
ADAPTERS = [(kind, case) for kind in KINDS for case in CASES]
IN_PEFT = [(kind, case) for kind, case in ADAPTERS if case not in ONLY_MERGED]


def save_trained(folder: Path, kind: str, settings) -> Path:
    """An adapter that describes itself, of random values."""
    encoder = encoder_of(kind)
    classifier = Classifier(encoder, settings, 1)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in classifier.adapter().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    base = Base(name="folder", revision=None, sha256=encoder.sha256)
    described = Description(base=base, settings=settings, seed=1, classes=CLASSES)
    classifier.save_adapter(folder / ADAPTER, metadata=described.metadata())
    return folder


def logits_here(run: Path, kind: str) -> torch.Tensor:
    trained, encoder = find_trained(run), encoder_of(kind)
    tokens, _ = tokenise([TEXT], [0], load_tokenizer(encoder.vocabulary, 64))
    classifier = trained.load(encoder, trained.description.settings)
    return torch.from_numpy(predict_logits(classifier, tokens)[0, 0])


def close(one, other) -> bool:
    return torch.allclose(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a run and its exports for each of ``ADAPTERS``."""
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def runs(exported, settings, monkeypatch):
    """The same, filled once."""
    monkeypatch.setattr("lora_replication.predict.project_root", lambda: exported)
    for kind, case in ADAPTERS if not any(exported.iterdir()) else ():
        place, encoder = exported / kind / case, encoder_of(kind).folder
        asked = settings(**CASES[case])
        if asked.file:
            file = exported / asked.file
            file.write_text(FILES[asked.file])
            own = {"file": str(file), "file_sha256": file_digest(file), "trains": file.stem}
            asked = asked.model_copy(update=own)
        save_trained(place / "run", kind, asked)
        for form in ("peft", "merged") if (kind, case) in IN_PEFT else ("merged",):
            export_run(place / "run", form, place / form, encoder)
    return exported


def test_exports_give_the_same_logits_in_a_process_that_does_not_know_this_project(runs):
    jobs = []
    for kind, case in ADAPTERS:
        encoder = encoder_of(kind)
        ids = load_tokenizer(encoder.vocabulary, 64).encode(TEXT).ids
        assert len(ids) == 64  # the text is cut
        for form in ("peft", "merged") if (kind, case) in IN_PEFT else ("merged",):
            job = {"form": form, "folder": str(runs / kind / case / form), "ids": ids}
            jobs.append(job | {"base": str(encoder.folder), "text": TEXT})
    script = Path(__file__).with_name("fresh_process.py")
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-I", script], input=json.dumps(jobs), text=True,
        capture_output=True, env=offline, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for job, logits in zip(jobs, found, strict=True):
        place = Path(job["folder"]).parent
        assert close(logits, logits_here(place / "run", place.parent.name)), job["folder"]


@pytest.mark.parametrize(("kind", "case"), IN_PEFT)
def test_an_export_comes_back_from_peft_with_its_classes_and_scale(runs, kind, case, tmp_path):
    place = runs / kind / case
    import_adapter(place / "peft", tmp_path / "run", encoder_of(kind).folder, 9, ("0", "1"))
    before, after = (find_trained(run).description for run in (place / "run", tmp_path / "run"))
    assert (after.classes, after.seed, after.base) == (CLASSES, 1, before.base)
    trains = "lora" if case in PLAIN_LORA else before.settings.trains
    assert (after.settings.trains, after.settings.file) == (trains, None)
    if case not in PLAIN_LORA:
        assert method_of(after.settings).options == method_of(before.settings).options
    assert after.settings.max_tokens == 64
    if lora := before.settings.lora:
        assert after.settings.lora.targets == lora.targets
        divisor = {"article": 1, "paper": lora.rank, "rslora": lora.rank**0.5}[lora.scaling]
        assert after.scale == pytest.approx(lora.alpha / divisor)
        assert after.settings.lora.rank == lora.rank * (2 if case == "pissa" else 1)
    assert close(logits_here(tmp_path / "run", kind), logits_here(place / "run", kind))


def test_another_base_is_refused(runs, tmp_path):
    run = runs / "distilbert" / "article"
    other = encoder_of("bert").folder
    with pytest.raises(DataError, match="not those that the run was trained on"):
        import_adapter(run / "peft", tmp_path / "run", other, 64, CLASSES)
    with pytest.raises(DataError, match="not those that the run was trained on"):
        export_run(run / "run", "merged", tmp_path / "merged", other)
    with pytest.raises(DataError, match=r"none.config\.json is missing"):
        export_run(run / "run", "merged", tmp_path / "merged", tmp_path / "none")


@pytest.mark.parametrize(("case", "words"), ONLY_MERGED.items())
def test_what_peft_has_no_adapter_for_is_refused_in_a_sentence(runs, case, words, tmp_path):
    run, encoder = runs / "distilbert" / case / "run", encoder_of("distilbert").folder
    with pytest.raises(ParameterError, match=f"trains {words}.* PEFT has no .*use --to merged"):
        export_run(run, "peft", tmp_path, encoder)


def test_exports_need_an_empty_folder(runs, tmp_path):
    run, encoder = runs / "distilbert" / "all" / "run", encoder_of("distilbert").folder
    (tmp_path / "kept").write_text("mine")
    for write in (export_run, lambda run, _form, *rest: import_adapter(run, *rest, 64, CLASSES)):
        with pytest.raises(ParameterError, match="is not empty"):
            write(run, "merged", tmp_path, encoder)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_the_commands_export_import_and_predict(runs, tmp_path):
    run, base = (
        str(runs / "bert" / "paper" / "run"),
        ["--encoder-path", str(encoder_of("bert").folder)],
    )
    peft_folder, back = str(tmp_path / "peft"), str(tmp_path / "back")
    for command in (
        ["export", run, peft_folder, "--to", "peft"],
        ["import", peft_folder, back, "--max-tokens", "9", "--classes", "no", "yes"],
    ):
        shown = CliRunner().invoke(cli, command + base, catch_exceptions=False).output
        assert shown == f"written: {command[2]}\n"
    one, other = (CliRunner().invoke(cli, ["predict", r, TEXT, *base]).output for r in (run, back))
    assert one == other
    assert one.startswith(CLASSES)


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_a_card_says_what_the_record_says(form, tmp_path):
    run = Path(__file__).resolve().parents[1] / "adapters" / "minilm-imdb"
    export_run(run, form, tmp_path / form, None)
    text, record = (tmp_path / form / "README.md").read_text("utf-8"), find_trained(run).record
    _, front, body = text.split("---\n", 2)
    front = YAML(typ="safe").load(front)
    assert (front["license"], front["library_name"]) == (
        "apache-2.0", "peft" if form == "peft" else "transformers"
    )  # fmt: skip
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.815
    for words in (
        "Test accuracy 81.5 %, 95 % interval 79.7 to 83.1 %", "seed 1", record.asked.data,
        record.asked.key, record.asked.weights, record.asked.title, "## Limits", "Apache-2.0",
    ):  # fmt: skip
        assert words in body
    assert ("PeftModel.from_pretrained" in body) == (form == "peft")


def test_a_methods_file_from_elsewhere_is_not_run(tmp_path, settings):
    code = tmp_path / "evil.py"
    code.write_text("raise SystemExit(99)")
    asked = settings(**CASES["paper"])
    own = {"file": str(code), "file_sha256": file_digest(code), "trains": "evil"}
    described = Description(
        base=Base(name="folder", revision=None, sha256="0" * 64),
        settings=asked.model_copy(update=own),
    )
    save_file({"x": torch.zeros(1)}, tmp_path / ADAPTER, described.metadata())
    with pytest.raises(DataError, match=r"evil\.py, outside the project's folder"):
        find_trained(tmp_path)
