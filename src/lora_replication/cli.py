"""``lora-replication``: whole studies, single runs, predictions, and the tracking mirror from the
command line.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lora_replication import __version__
from lora_replication.errors import ParameterError
from lora_replication.process import run_command
from lora_replication.study import expanded

Command = Callable[[argparse.Namespace], None]


def main() -> None:
    """Entry point of the command ``lora-replication``."""
    sys.exit(run_command(_main, "lora-replication"))


def _main() -> None:
    arguments = _parser().parse_args()
    command: Command = arguments.command
    command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lora-replication", description='A replication of "Code LoRA from Scratch".'
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="bring a study up to date (dvc repro in its workspace)")
    run.add_argument("study", help="article, or a file of studies/ without .yaml")
    run.add_argument("--publish", action="store_true", help="copy the report to reports/STUDY")
    run.set_defaults(command=_run)

    doctor = commands.add_parser(
        "doctor", help="look whether this machine is ready for a study; changes nothing"
    )
    doctor.add_argument(
        "study", nargs="?", default="article", help="article, or a file of studies/ without .yaml"
    )
    doctor.set_defaults(command=_doctor)

    report = commands.add_parser("report", help="write a study's report again from its records")
    report.add_argument("study", help="article, or a file of studies/ without .yaml")
    report.add_argument(
        "--allow-partial",
        action="store_true",
        help="also where runs are missing; the report says how many of how many",
    )
    report.add_argument("--open", action="store_true", help="show the page in the browser")
    report.set_defaults(command=_report)

    train = commands.add_parser(
        "train", help="train one run", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    train.add_argument(
        "--study", default="article", help="where data, encoder and training settings come from"
    )
    train.add_argument(
        "--method", help="a method of the study; without it, LoRA with the switches below"
    )
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--lora_r", type=int, default=8, action=_Given, help="rank")
    train.add_argument(
        "--lora_alpha", type=float, default=16.0, action=_Given, help="factor of the low-rank term"
    )
    for target in ("query", "key", "value", "projection", "mlp", "head"):
        train.add_argument(
            f"--lora_{target}",
            type=_switch,
            default=target in ("query", "value"),
            action=_Given,
            metavar="True|False",
        )
    train.set_defaults(command=_train, given=())

    predict = commands.add_parser("predict", help="tell the sentiment of texts with a trained run")
    predict.add_argument("run", type=expanded, help="a run's folder, with record.json")
    predict.add_argument("texts", nargs="*", metavar="TEXT")
    predict.add_argument(
        "--file", type=expanded, help="a file with one text a line; - reads standard input"
    )
    predict.add_argument(
        "--encoder-path",
        type=expanded,
        help="the encoder's folder, for runs whose encoder was a local folder",
    )
    predict.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="the run's own where not given; on cpu a run of fp16-mixed predicts in fp32",
    )
    predict.add_argument("--json", action="store_true", help="one JSON object a line")
    predict.set_defaults(command=_predict)

    published = commands.add_parser(
        "published", help="report what the grid published with the article says"
    )
    published.add_argument("file", type=expanded, help="the results file of the article's studio")
    published.add_argument(
        "--folder", type=expanded, help="where to write; reports/published where not given"
    )
    published.add_argument(
        "--study", help="set the finished configurations of this study's grid beside it"
    )
    published.set_defaults(command=_published)

    sync = commands.add_parser(
        "sync", help="rebuild the MLflow mirror from the records of all studies"
    )
    sync.set_defaults(command=_sync)
    return parser


class _Given(argparse.Action):
    """Stores a value, and in ``given`` that it was."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.given = (*namespace.given, option)


def _switch(text: str) -> bool:
    values = {"true": True, "false": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"is {text!r}; allowed: True, False")
    return values[text.lower()]


def _run(arguments: argparse.Namespace) -> None:
    from lora_replication.pipeline import run_study

    run_study(arguments.study, publish=arguments.publish)


def _doctor(arguments: argparse.Namespace) -> None:
    from lora_replication.doctor import examine_study

    examine_study(arguments.study)


def _report(arguments: argparse.Namespace) -> None:
    from lora_replication.workspace import report_study

    page = report_study(arguments.study, allow_partial=arguments.allow_partial)
    print(f"report: {page}")
    if arguments.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _train(arguments: argparse.Namespace) -> None:
    from lora_replication.single import train_single

    if arguments.method is not None and arguments.given:
        raise ParameterError(
            f"--method {arguments.method} and {', '.join(arguments.given)} exclude each other; allowed: a method of the study as it is, "
            "or LoRA with the switches"
        )
    switches = {
        name.removeprefix("lora_"): value
        for name, value in vars(arguments).items()
        if name.startswith("lora_")
    }
    train_single(arguments.study, arguments.method, arguments.seed, switches)


def _predict(arguments: argparse.Namespace) -> None:
    from lora_replication.single import predict_texts

    predict_texts(
        arguments.run,
        arguments.texts,
        arguments.file,
        encoder_path=arguments.encoder_path,
        device=arguments.device,
        as_json=arguments.json,
    )


def _published(arguments: argparse.Namespace) -> None:
    from lora_replication.workspace import report_published

    print(f"report: {report_published(arguments.file, arguments.folder, arguments.study)}")


def _sync(_arguments: argparse.Namespace) -> None:
    from lora_replication.workspace import sync_all

    sync_all()
