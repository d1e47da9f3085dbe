"""The runs that a study asks for, each with the key that says whether a record is of exactly this run. Needs no torch."""

import ast
import io
import tokenize
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lora_replication.data.manifest import Manifest
from lora_replication.errors import ParameterError
from lora_replication.methods import RunSettings, resolve
from lora_replication.params import Study
from lora_replication.records import Asked, Role, digest

CODE = (
    "checkpoints.py", "classifier.py", "data/batches.py", "data/tokens.py", "encoders.py", "evaluation.py", "forward.py", "layouts.py",
    "lora.py", "methods.py", "packs.py", "randomness.py", "runs.py", "training.py",
)  # fmt: skip
"""The modules that decide a run's result: a change in one of them makes earlier records stale, here and in ``dvc.yaml``."""


@dataclass(frozen=True)
class Job:
    """A run that is asked for.

    Attributes:
        role, name: see ``records.Asked``.
        settings, seed: what decides it.
    """

    role: Role
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


def method_job(study: Study, method: str, seed: int) -> Job:
    """One run of one method of the study. Raises ``ParameterError`` where there is no such method or seed."""
    if method not in study.methods:
        raise ParameterError(f"--method is {method!r}; allowed: {', '.join(study.methods)}")
    return Job("method", method, resolve(study, study.methods[method]), checked_seed(seed))


def checked_seed(seed: int) -> int:
    """``seed``. Raises ``ParameterError`` where it is out of range."""
    if not 0 <= seed < 2**32:
        raise ParameterError(f"--seed is {seed}; allowed: a whole number from 0 to 4294967295")
    return seed


def asked_of(study: Study, manifest: Manifest, job: Job) -> Asked:
    """What ``job`` asks of the study's prepared data, with its key."""
    settings, data, weights, code = job.settings.as_dict(), manifest.digest, manifest.encoder.weights_sha256, code_digest()
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
        key=run_key(settings, job.seed, data, weights, code),
    )


def run_key(settings: dict[str, Any], seed: int, data: str, weights: str, code: str) -> str:
    """sha256 over what decides a run's result."""
    return digest({"settings": settings, "seed": seed, "data": data, "weights": weights, "code": code})


@cache
def code_digest() -> str:
    """sha256 over what the modules in ``CODE`` do: better words in a comment or a docstring make no record stale."""
    package = Path(__file__).parent
    return digest({name: _without_words((package / name).read_text("utf-8")) for name in CODE})


def _without_words(source: str) -> str:
    """``source`` without comments, docstrings and empty lines."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
