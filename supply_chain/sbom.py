"""The software bill of materials: requirements.lock as CycloneDX 1.6, one component a line. ``make
lock`` writes it.

torch is no part of it: its build depends on the machine, and the Makefile pins its version.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
SBOM = ROOT / "supply_chain" / "sbom.json"

_REQUIREMENT = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\]+?))?((?: \\\n +--hash=sha256:[0-9a-f]{64})+)\n"
)


@dataclass(frozen=True)
class Locked:
    """A requirement of the lock.

    Attributes:
        marker: the platforms and versions of Python that need it, or null for all.
        sha256: of each file of this version that may be installed.
    """

    name: str
    version: str
    marker: str | None
    sha256: tuple[str, ...]


def read_lock(text: str) -> list[Locked]:
    """Every requirement of a lock, in its order. Raises ``ValueError`` for a line that is none with
    an exact version and hashes.
    """
    content = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    locked, place = [], 0
    while place < len(content):
        found = _REQUIREMENT.match(content, place)
        if found is None:
            raise ValueError(
                f"requirements.lock: {content[place:].splitlines()[0]!r} has no exact version with hashes; run: make lock"
            )
        locked.append(
            Locked(
                found["name"],
                found["version"],
                found["marker"],
                tuple(re.findall(r"sha256:(\w+)", found[0])),
            )
        )
        place = found.end()
    return locked


def sbom(locked: list[Locked]) -> str:
    """The bill of materials as JSON, the same bytes for the same lock."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{one.name}@{one.version}",
            "name": one.name,
            "version": one.version,
            "purl": f"pkg:pypi/{one.name}@{one.version}",
            "hashes": [{"alg": "SHA-256", "content": content} for content in one.sha256],
        }
        for one in locked
    ]
    head = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _project()},
    }
    lines = ",\n".join(json.dumps(component) for component in components)
    return f'{json.dumps(head)[:-1]}, "components": [\n{lines}\n]}}\n'


def _project() -> dict[str, str]:
    version = re.search(
        r'__version__ = "(.+)"',
        (ROOT / "src" / "lora_replication" / "__init__.py").read_text("utf-8"),
    )
    return {
        "type": "application",
        "bom-ref": "lora-replication",
        "name": "lora-replication",
        "version": version[1] if version else "",
    }


if __name__ == "__main__":
    SBOM.write_text(sbom(read_lock(LOCK.read_text("utf-8"))), "utf-8")
