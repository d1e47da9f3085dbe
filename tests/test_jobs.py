from pathlib import Path

import pytest
from report_records import make_manifest, make_study
from ruamel.yaml import YAML

from lora_replication.grid.space import cell_jobs
from lora_replication.jobs import CODE, Job, asked_of, method_jobs
from lora_replication.study import EXECUTION, GridParams

ROOT = Path(__file__).resolve().parents[1]


def test_every_method_with_every_seed():
    jobs = method_jobs(make_study())
    assert [(job.name, job.seed) for job in jobs] == [
        (name, seed)
        for name in ("last_layers", "lora_default", "lora_tuned", "full")
        for seed in (1, 2, 3)
    ]


def key(manifest_changes=None, seed=1, name="lora_default", role="method", **changes) -> str:
    study = make_study(**changes)
    manifest = make_manifest().model_copy(update=manifest_changes or {})
    job = next(job for job in method_jobs(study) if job.name == "lora_default")
    return asked_of(study, manifest, Job(role, name, job.settings, seed)).key


@pytest.mark.fault(30)
def test_the_key_changes_with_everything_that_decides_a_result():
    other_weights = make_manifest().encoder.model_copy(update={"weights_sha256": "54" * 32})
    study = make_study()
    train = study.train.model_dump()
    methods = study.model_dump()["methods"]
    methods["lora_default"]["lora"] |= {"rank": 4, "targets": ["query", "value"]}
    for method in methods.values():
        if method["lora"]:
            method["lora"]["targets"] = list(method["lora"]["targets"])
    keys = [
        key(),
        key(seed=2),
        key(manifest_changes={"vocabulary_sha256": "e6" * 32}),
        key(manifest_changes={"encoder": other_weights}),
        key(train=train | {"learning_rate": 1e-4}),
        key(train=train | {"epochs": 4}),
        key(train=train | {"precision": "bf16-mixed"}),
        key(methods=methods),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_change_with_names_and_other_methods():
    study = make_study()
    methods = study.model_dump(mode="json")["methods"]
    methods["full"]["learning_rate"] = 1e-3
    assert (
        key(title="Another title")
        == key(study="another")
        == key(name="x", role="cell")
        == key(methods=methods)
        == key()
    )


@pytest.mark.fault(30)
def test_the_key_changes_with_the_code(monkeypatch, tmp_path):
    from lora_replication import jobs

    jobs.code_digest.cache_clear()
    before = key()
    for name in CODE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / "src/lora_replication" / name).read_bytes())
    monkeypatch.setattr(jobs, "__file__", str(tmp_path / "jobs.py"))
    source = (tmp_path / "lora.py").read_text()

    def key_with(text: str) -> str:
        (tmp_path / "lora.py").write_text(text)
        jobs.code_digest.cache_clear()
        return key()

    assert key_with(source) == before
    reworded = source.replace(
        '"""LoRA from scratch', '"""# Another word\n\nLoRA from scratch'
    ).replace("    def forward", "    # why\n\n    def forward  ")
    assert reworded != source
    assert key_with(reworded.replace("forward  (", "forward(")) == before
    assert key_with(source.replace("self.scale * self.B", "self.B")) != before
    jobs.code_digest.cache_clear()


@pytest.mark.parametrize("stage", ["train", "gridsearch"])
def test_dvc_watches_the_same_modules_as_the_key(stage):
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    start = "src/lora_replication/"
    watched = {dep.removeprefix(start) for dep in stages[stage]["deps"] if dep.startswith(start)}
    assert watched - {"grid/choice.py", "grid/space.py", "grid/sweep.py"} == set(CODE)


def test_every_path_that_dvc_watches_exists():
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for dep in stage["deps"]:
            assert "${" in dep or (ROOT / dep).exists(), dep


@pytest.mark.parametrize("stage", ["gridsearch", "report"])
def test_dvc_watches_what_decides_the_grid_and_not_how_it_is_computed(stage):
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    watched = {
        key.removeprefix("grid.") for key in stages[stage]["params"] if key.startswith("grid")
    }
    assert watched == set(GridParams.model_fields) - set(EXECUTION)


def test_how_the_grid_is_computed_is_in_no_key():
    changes = {"pack": 3, "executor": "processes", "workers": 5, "attempts": 7, "pack_timeout": 9.0,
               "ray_address": "10.0.0.1:6379", "ray_cpus": 2, "ray_gpu_share": 0.5}  # fmt: skip
    assert set(changes) == set(EXECUTION)
    study = make_study()
    other = make_study(grid=study.grid.model_dump() | changes)
    manifest = make_manifest()
    for job, changed in zip(cell_jobs(study), cell_jobs(other), strict=True):
        assert asked_of(study, manifest, job) == asked_of(other, manifest, changed)
