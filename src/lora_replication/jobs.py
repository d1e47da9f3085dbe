"""The runs that a study asks for, each with the key that says whether a record is of exactly this run. Needs no torch."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_replication.data.manifest import Manifest
from lora_replication.methods import RunSettings, resolve
from lora_replication.params import Study
from lora_replication.records import Asked, digest

CODE = (
    "checkpoints.py", "classifier.py", "data/batches.py", "data/tokens.py", "encoders.py", "evaluation.py", "forward.py", "layouts.py",
    "lora.py", "methods.py", "randomness.py", "runs.py", "training.py",
)  # fmt: skip
"""The modules that decide a run's result: a change in one of them makes earlier records stale, here and in ``dvc.yaml``."""


@dataclass(frozen=True)
class Job:
    """A run that is asked for.

    Attributes:
        role, name: see ``records.Asked``.
        settings, seed: what decides it.
    """

    role: Literal["method", "cell", "winner"]
    name: str
    settings: RunSettings
    seed: int

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.name} seed {self.seed}"


def method_jobs(study: Study) -> list[Job]:
    """Every method of ``run.methods`` with every seed."""
    return [Job("method", name, resolve(study, study.methods[name]), seed) for name in study.run.methods for seed in study.run.seeds]


def asked_of(study: Study, manifest: Manifest, job: Job) -> Asked:
    """What ``job`` asks of the study's prepared data, with its key."""
    settings, data, weights, code = job.settings.as_dict(), manifest.digest, manifest.encoder.weights_sha256, code_digest()
    key = digest({"settings": settings, "seed": job.seed, "data": data, "weights": weights, "code": code})
    return Asked(
        study=study.study,
        title=study.title,
        role=job.role,
        name=job.name,
        settings=settings,
        seed=job.seed,
        data=data,
        weights=weights,
        code=code,
        key=key,
    )


def code_digest() -> str:
    """sha256 over the modules in ``CODE``."""
    package = Path(__file__).parent
    return digest({name: hashlib.sha256((package / name).read_bytes()).hexdigest() for name in CODE})
