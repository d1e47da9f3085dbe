"""Methods in files of their own: the tutorial of docs/extending.md, and messages on bad files."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lora_replication.errors import DataError, ParameterError
from lora_replication.plan import method_run
from lora_replication.reading import load_study
from lora_replication.record import ADAPTER, Settings, read_record
from lora_replication.report.build import build_report
from lora_replication.study import WITH_LORA, BuiltIn, MethodParams
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.methods import merge
from lora_replication.training.methods.registry import method_of
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests.study_files import ROOT, read_params, write_params
from tests.training_runs import close, encoder_of, run_training, weights_of

GUIDE = (ROOT / "docs" / "extending.md").read_text("utf-8")
CODE, YAML_TEXT = (
    re.search(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)[1] for kind in ("python", "yaml")
)
LORA = {"rank": 2, "alpha": 1, "targets": ["query", "value"]}


def study_in(folder: Path, code: str = CODE, **method: object):
    """A study whose only method is in a file next to it."""
    folder.mkdir(exist_ok=True)
    (folder / "lora_xs.py").write_text(code)
    own = {"file": "lora_xs.py", "lora": LORA, "options": {"start": 0.01}} | method
    run = {"methods": ["mine"], "seeds": [1]}
    return load_study(write_params(folder, methods={"mine": own}, run=run, grid=None))


def settings_in(folder: Path, code: str = CODE, **method: object) -> Settings:
    study = study_in(folder, code, **method)
    return Settings.of(study, study.methods["mine"])


def test_every_method_of_the_package_is_a_file_with_words():
    folder = ROOT / "src" / "lora_replication" / "training" / "methods"
    names = set(BuiltIn.__args__)
    assert {file.stem for file in folder.glob("*.py")} == names | {"__init__", "registry"}
    for name in names:
        lora = {"rank": 1, "alpha": 1, "targets": ["query"]} if name in WITH_LORA else None
        method = method_of(MethodParams.model_validate({"trains": name, "lora": lora}))
        assert method.words
        assert lora or not method.packs


def test_the_methods_of_the_usage_guide_can_be_asked_for(tmp_path):
    text = re.search(
        r"## Methods.*?```yaml\n(.*?)```", (ROOT / "docs/usage.md").read_text(), re.DOTALL
    )[1]
    (tmp_path / "methods.yaml").write_text(text)
    methods = read_params(tmp_path / "methods.yaml")["methods"]
    study = load_study(write_params(tmp_path, methods=methods))
    assert set(BuiltIn.__args__) == {study.methods[name].trains for name in methods}
    assert study.methods["lora_plus"].options == {"loraplus_ratio": 16.0}


def test_the_tutorials_method_is_trained_saved_merged_and_reported(tiny_root, mirror):
    assert len(CODE.splitlines()) <= 60
    (tiny_root / "methods.yaml").write_text(YAML_TEXT)
    assert load_study(write_params(
        tiny_root / "whole", methods=read_params(tiny_root / "methods.yaml")["methods"] | {
            "lora_xs": {"file": study_file(tiny_root)}}))  # fmt: skip
    workspace = Workspace(study_in(tiny_root / "params"), tiny_root)
    run = method_run(workspace, "mine", 1)
    (record,) = perform(workspace, [run], mirror)
    assert read_record(workspace.folder(run)) == record
    assert (record.happened.status, record.happened.trainable_parameters) == ("ok", 2 * 2 * 4)
    assert record.happened.notes == ["LoRA-XS: the model before training is not the encoder's"]
    loaded = Classifier(workspace.encoder, record.asked.settings, 1)
    start = weights_of(loaded)
    loaded.load_adapter(workspace.folder(run) / ADAPTER)
    assert not close(start, weights_of(loaded), 1e-6)
    logits = predict_logits(loaded, workspace.tokens["test"])[0]
    assert (
        logits.argmax(1) == workspace.tokens["test"].labels
    ).sum() == record.happened.test.correct
    merge(loaded.models[0])
    assert np.allclose(predict_logits(loaded, workspace.tokens["test"])[0], logits, atol=1e-5)
    build_report(workspace, tiny_root / "report")
    words = "LoRA-XS, start 0.01, rank 2, alpha 1, on query and value"
    assert words in (tiny_root / "report" / "report.md").read_text()


def study_file(folder: Path) -> str:
    (folder / "lora_xs.py").write_text(CODE)
    return str(folder / "lora_xs.py")


def test_the_tutorials_method_packs_with_lora(tmp_path, tokens, settings):
    own = settings_in(tmp_path)
    plain = own.model_dump(exclude={"file", "file_sha256", "options", "lora", "trains"})
    asked = [own, settings(lora={"rank": 3}, **plain)]
    options = {"tokens": tokens, "double": True}
    pack, _ = run_training(pack=asked, checkpoint=tmp_path / "pack", **options)
    for index, each in enumerate(asked):
        alone, _ = run_training(pack=[each], checkpoint=tmp_path / str(index), **options)
        assert close(weights_of(pack, index), weights_of(alone), 1e-9)


def test_a_changed_file_is_another_run_and_never_reads_the_records_of_the_first(tiny_root):
    keys = []
    for code in (CODE, CODE.replace("* S[", "* S.sqrt()[")):
        workspace = Workspace(study_in(tiny_root / "params", code), tiny_root)
        keys.append(method_run(workspace, "mine", 1).key)
        before = workspace.study.methods["mine"]
    assert keys[0] != keys[1]
    study_in(tiny_root / "params", CODE + "# changed\n")
    with pytest.raises(DataError, match="put the right file there"):
        method_of(before.model_copy(update={"file_sha256": "00"}))
    moved = study_in(tiny_root / "elsewhere", code)
    assert method_run(Workspace(moved, tiny_root), "mine", 1).key == keys[1]


def test_a_file_in_the_project_is_recorded_by_its_place_there(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = settings_in(tmp_path / "studies" / "mine")
    assert (settings.file, settings.trains) == ("studies/mine/lora_xs.py", "lora_xs")
    assert str(tmp_path) not in settings.model_dump_json()
    monkeypatch.chdir(tmp_path / "studies" / "mine")
    assert method_of(settings).words == "LoRA-XS"


BODY = "return LinearWithXS("
BAD = {
    r"lora_xs.py:7: can't be imported: SyntaxError": ("import torch\n", "import\n"),
    r"can't be imported: ModuleNotFoundError: No module named 'torhc'": (
        "import torch",
        "import torhc",
    ),
    r"has 0 subclasses of Method; allowed: one": ("class LoRAXS(Method)", "class LoRAXS"),
    r"lora_xs.py:\d+: LoRAXS lacks words": ('    words = "LoRA-XS"', '    name = "LoRA-XS"'),
    r"it lacks both stand_in and trains": ("def stand_in", "def stands_in"),
}
UNFIT = {
    r"py:\d+: LoRAXS: trains nothing": ("nn.Parameter(start * drawn)", "nn.Buffer(start * drawn)"),
    r"py:\d+: .*: stand_in gives two builds .* that differ": (', generator=site.draw("R")', ""),
    r"forward draws unnamed": ("return self.A, self", "torch.rand(1)\n        return self.A, self"),
    r"lora_xs.py: forward: RuntimeError: mat1 and mat2": (
        "return self.A, self", "return self.A.T, self",
    ),
    r"lora_xs.py:\d+: stand_in: AttributeError: .*no attribute 'rang'": (
        "self.lora.rank", "self.lora.rang",
    ),
    r"stand_in returns no nn.Module with a method merged": (BODY, "return nn.Linear(1, 1) or ("),
    r"packs is true, but stand_in returns no LowRank": (
        BODY, "site.linear.merged = lambda: site.linear\n        return site.linear or (",
    ),
    r"forward returns \(1, 1\), not \(1, 32\)": (
        "    def low_rank",
        "    def forward(self, x):\n        return x[:, :1]\n\n    def low_rank",
    ),
    r"merged computes something else than forward": (
        "    def low_rank", "    def merged(self):\n        return self.linear\n\n    def low_rank",
    ),
    r"trains distilbert.embeddings.*; what packs trains the head and what it adds": (
        "    def stand_in",
        "    def trains(self, parameter, in_head):\n        return True\n\n    def stand_in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
@pytest.mark.fault(21)
def test_a_file_that_is_no_method_is_refused_when_the_study_is_read(tmp_path, message):
    old, new = BAD[message]
    assert CODE.count(old) >= 1
    with pytest.raises(ParameterError, match=message) as refused:
        study_in(tmp_path, CODE.replace(old, new, 1))
    assert re.match(r".*params\.yaml:\d+: methods\.mine\.file: /", str(refused.value))
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("message", UNFIT)
@pytest.mark.fault(21)
def test_a_method_that_does_not_do_what_methods_do_is_refused(tmp_path, message):
    old, new = UNFIT[message]
    assert CODE.count(old) >= 1
    settings = settings_in(tmp_path, CODE.replace(old, new))
    with pytest.raises(ParameterError, match=message) as refused:
        Classifier(encoder_of(), settings, 1)
    assert "lora_xs.py" in str(refused.value)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"options": {"start": 2.0}}, "methods.mine.options.start is 2.0; Input should be less"),
        ({"options": {"begin": 1}}, "methods.mine.options.begin is 1; Extra inputs are not permit"),
        ({"file": "missing.py"}, "missing.py: can't be read .No such file"),
        ({"trains": "lora"}, "methods.mine: trains or file is needed, and not both"),
        ({"lora": LORA | {"targets": ["head"]}, "train_head": True}, "head is trained or adapted"),
    ],
)
@pytest.mark.fault(21)
def test_a_wrong_setting_of_a_method_is_named(tmp_path, method, message):
    with pytest.raises(ParameterError, match=message):
        study_in(tmp_path, **method)


def test_torch_draws_a_longer_row_as_the_shorter_and_more():
    """VeRA's layers of other sizes share their factors by this."""
    draws = [torch.rand(n, 3, generator=torch.Generator().manual_seed(1)) for n in (7, 40)]
    assert torch.equal(draws[0], draws[1][:7])
