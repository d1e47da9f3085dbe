"""``make audit``: known vulnerabilities of the locked versions and of torch, less those that
waivers.toml explains.

Needs the network, for the vulnerability service that pip-audit asks.
"""

import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime

from sbom import LOCK, ROOT, read_lock


def main(torch_version: str) -> int:
    """pip-audit's exit code: 0 where nothing is found that no waiver explains; 1 also where a
    waiver has run out.
    """
    waivers = tomllib.loads((ROOT / "supply_chain" / "waivers.toml").read_text("utf-8"))["waiver"]
    over = [waiver["id"] for waiver in waivers if waiver["until"] < datetime.now(UTC).date()]
    if over:
        print(
            f"waivers.toml: {', '.join(over)} has run out; look for a fixed version, or renew it with its reason",
            file=sys.stderr,
        )
        return 1
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(
            "".join(f"{one.name}=={one.version}\n" for one in read_lock(LOCK.read_text("utf-8")))
        )
        requirements.write(f"torch=={torch_version}\n")
        requirements.flush()
        audit = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            requirements.name,
            "--no-deps",
            "--disable-pip",
            "--strict",
        ]
        ignored = [word for waiver in waivers for word in ("--ignore-vuln", waiver["id"])]
        return subprocess.run([*audit, *ignored], check=False).returncode  # noqa: S603  # fixed words


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
