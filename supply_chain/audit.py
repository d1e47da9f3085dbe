"""``make audit``: known vulnerabilities of the locked versions and of torch, less the waivers.

Needs the network, for the vulnerability service that pip-audit asks. With more arguments, such as
``--format cyclonedx-json``, pip-audit prints its bill of materials instead of a table.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(torch_version: str, *others: str) -> int:
    """pip-audit's exit code; 1 also where a waiver has run out."""
    waivers = tomllib.loads((ROOT / "supply_chain" / "waivers.toml").read_text("utf-8"))["waiver"]
    over = [waiver["id"] for waiver in waivers if waiver["until"] < datetime.now(UTC).date()]
    if over:
        print(
            f"waivers.toml: {', '.join(over)} has run out; "
            "look for a fixed version, or renew it with its reason",
            file=sys.stderr,
        )
        return 1
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = re.findall(r"^([a-z0-9.-]+==[^ ;\n]+)", lock, re.MULTILINE)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join([*pinned, f"torch=={torch_version}"]) + "\n")
        requirements.flush()
        audit = [sys.executable, "-m", "pip_audit", "--requirement", requirements.name]
        audit += ["--no-deps", "--disable-pip", "--strict", *others]
        audit += [word for waiver in waivers for word in ("--ignore-vuln", waiver["id"])]
        return subprocess.run(audit, check=False).returncode  # noqa: S603  # fixed words


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
