"""DVC stage: the reviews become the article's split, its tokens and a manifest."""

import sys
from pathlib import Path

from lora_replication.params import load_study
from lora_replication.processes import only_writer, run_command


def prepare() -> None:
    """Read params.yaml, write data/<study>."""
    study = load_study(Path("params.yaml"))
    from lora_replication.data.prepare import prepare as prepare_data
    from lora_replication.encoders import locate_encoder

    with only_writer(Path("build/state") / study.study / "prepare.lock"):
        prepare_data(study, locate_encoder(study.model), Path("data") / study.study)


if __name__ == "__main__":
    sys.exit(run_command(prepare, "prepare"))
