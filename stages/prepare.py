"""DVC stage: the reviews become the article's split, its tokens and a manifest."""

import sys
from pathlib import Path

from lora_replication.files import only_writer
from lora_replication.process import run_command
from lora_replication.reading import unchanged


def prepare() -> None:
    """Read params.yaml, write data/<study>."""
    with unchanged(Path("params.yaml")) as study:
        from lora_replication.data.prepare import prepare as prepare_data
        from lora_replication.encoders import locate_encoder
        from lora_replication.workspace import Workspace

        workspace = Workspace(study, Path(study.root).resolve())
        with only_writer(workspace.state / "prepare.lock"):
            prepare_data(study, locate_encoder(study.model), workspace.data)


if __name__ == "__main__":
    sys.exit(run_command(prepare, "prepare"))
