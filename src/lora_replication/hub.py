"""Files of the Hugging Face hub at a pinned commit."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_replication.errors import EnvironmentProblem

ANSWER_SECONDS = 10.0
"""How long the hub may take to answer; left to itself, its client tries a dead address for 90 s."""


@dataclass(frozen=True)
class HubFiles:
    """Some files of a repository at a commit."""

    repository: str
    revision: str
    names: tuple[str, ...]
    kind: Literal["model", "dataset"]

    def cached(self) -> list[Path] | None:
        """The files where the hub's cache has them all; no question is asked."""
        _without_telemetry()
        from huggingface_hub import try_to_load_from_cache

        found = (
            try_to_load_from_cache(
                self.repository, name, revision=self.revision, repo_type=self.kind
            )
            for name in self.names
        )
        files = [Path(file) for file in found if isinstance(file, str)]
        return files if len(files) == len(self.names) else None

    def fetched(self, instead: str) -> list[Path]:
        """The files from the cache, else from the hub.

        ``HF_HOME``, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` mean what they mean to its client.

        Args:
            instead: what a person without the hub can do, for the message.

        Raises:
            EnvironmentProblem: they are not cached, and the hub is switched off, doesn't answer or
                has no such files.
        """
        return self.cached() or self._downloaded(instead)

    def _downloaded(self, instead: str) -> list[Path]:
        from huggingface_hub import HfApi, constants, hf_hub_download
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of httpx

        try:
            HfApi().repo_info(
                self.repository,
                revision=self.revision,
                repo_type=self.kind,
                timeout=ANSWER_SECONDS,
            )
            return [
                Path(
                    hf_hub_download(
                        self.repository, name, revision=self.revision, repo_type=self.kind
                    )
                )
                for name in self.names
            ]
        except (HTTPError, OSError) as problem:
            reason = str(problem).strip().split("\n", maxsplit=1)[0]
            raise EnvironmentProblem(
                f"{self.repository} at revision {self.revision}: can't be had from the hub at "
                f"{constants.ENDPOINT} ({type(problem).__name__}: {reason}), and "
                f"{constants.HF_HUB_CACHE} holds no whole copy; connect once, or {instead}, or "
                "bring a copy of that cache from another machine and set HF_HUB_OFFLINE=1"
            ) from None


def _without_telemetry() -> None:
    """The hub's client reads these when it is imported."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
