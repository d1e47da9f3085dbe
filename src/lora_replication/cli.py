"""``lora-replication``: whole studies, single runs, predictions, and the MLflow copy."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from lora_replication import __version__
from lora_replication.allowed import TARGETS
from lora_replication.errors import ParameterError
from lora_replication.files import project_root
from lora_replication.process import run_command

FIRST_STEPS = """\b
First steps:
  lora-replication run demo        a study in minutes
  lora-replication list            the studies here
  lora-replication doctor article  is this machine ready?
"""

PATH: click.Path = click.Path(path_type=Path)
STUDY = click.argument("study")
ENCODER_PATH = click.option(
    "--encoder-path", type=PATH, help="The folder of an encoder that is local."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def main() -> None:
    """Entry point of the command ``lora-replication``."""
    sys.exit(run_command(_main, "lora-replication"))


def _main() -> None:
    try:
        cli(prog_name="lora-replication", standalone_mode=False)
    except click.ClickException as problem:
        context = getattr(problem, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        raise ParameterError(f"{problem.format_message().rstrip('.')}{hint}") from None


@click.group(
    invoke_without_command=True,
    help=f'A replication of "Code LoRA from Scratch".\n\n{FIRST_STEPS}',
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
)
@click.version_option(__version__, prog_name="lora-replication")
@click.pass_context
def cli(context: click.Context) -> None:
    """Without a command: the help."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command("list", epilog="Example: lora-replication list --json")
@AS_JSON
def list_studies(as_json: bool) -> None:
    """List the studies of this project."""
    from lora_replication.reading import read_study, study_names

    root = project_root()
    titles = {name: read_study(name, root).title for name in study_names(root)}
    width = max(map(len, titles))
    lines = [f"{name:{width}}  {title}" for name, title in titles.items()]
    click.echo(json.dumps(titles, indent=1) if as_json else "\n".join(lines))


@cli.command(epilog="Example: lora-replication run demo")
@STUDY
@click.option("--from-published", is_flag=True, help="Take its published runs as done.")
@click.option("--without-grid", is_flag=True, help="Leave out the grid; the report is partial.")
@click.option("--verbose", is_flag=True, help="Show DVC's output.")
@AS_JSON
def run(study: str, **options: bool) -> None:
    """Run all stages of STUDY. Recorded runs are skipped."""
    from lora_replication.pipeline import run_study

    run_study(study, **options)


@cli.command(epilog="Example: lora-replication status demo --json")
@STUDY
@AS_JSON
def status(study: str, as_json: bool) -> None:
    """Show which runs of STUDY are done, failed or missing. Changes nothing."""
    from lora_replication.plan import show_status

    show_status(study, as_json=as_json)


@cli.command(epilog="Example: lora-replication doctor article")
@click.argument("study", default="article")
@AS_JSON
def doctor(study: str, as_json: bool) -> None:
    """Check whether this machine is ready for STUDY. Changes nothing."""
    from lora_replication.doctor import examine_study

    examine_study(study, as_json=as_json)


@cli.command(epilog="Example: lora-replication report minilm-small --open")
@STUDY
@click.option("--allow-partial", is_flag=True, help="Report even if runs are missing.")
@click.option("--publish", is_flag=True, help="Copy the records next to the report.")
@click.option("--open", "show", is_flag=True, help="Show the page in the browser.")
@AS_JSON
def report(study: str, allow_partial: bool, publish: bool, show: bool, as_json: bool) -> None:
    """Rebuild the report of STUDY from its records. In a fresh clone, from the committed ones."""
    from lora_replication.report.build import report_study
    from lora_replication.report.tables import terminal_table

    root = project_root()
    results = report_study(study, root, allow_partial=allow_partial, publish=publish)
    page = root / "reports" / study / "report.html"
    text = f"{terminal_table(results)}\nreport: {page}"
    click.echo(results.to_json() if as_json else text)
    if show:
        click.launch(page.resolve().as_uri())


@cli.command(epilog="Example: lora-replication compare lora_default full --study minilm-small")
@click.argument("first")
@click.argument("second")
@click.option("--study", default="article", help="Study of a side that names none.")
@click.option(
    "--margin", type=float, help="Points within which both are equally good; the study's."
)
@click.option("--seeds-at-most", type=int, help="Train on up to this many seeds until decided.")
@click.option("--tune", is_flag=True, help="First tune both learning rates, with equal trials.")
@click.option("--step", default=5, help="Seeds between two looks, with --seeds-at-most.")
@click.option("--page", type=PATH, help="Also write this HTML page, and JSON next to it.")
@AS_JSON
def compare(first: str, second: str, page: Path | None, as_json: bool, **options: Any) -> None:
    """Say whether SECOND is better than FIRST, worse or equally good.

    Each is METHOD, STUDY:METHOD, FOLDER:METHOD with the folder of a published report, or a folder
    of foreign predictions.
    """
    from lora_replication.compare.command import compare_recorded, terminal_text, write_page

    most, step, tune = (options[name] for name in ("seeds_at_most", "step", "tune"))
    sides = first, second, options["study"], options["margin"], project_root()
    if most is None and not tune:
        found = compare_recorded(*sides)
    else:
        from lora_replication.compare.more_seeds import compare_training

        found = compare_training(*sides, most, step, tune=tune)
    if page:
        write_page(found, page)
    click.echo(found.model_dump_json(indent=1) if as_json else terminal_text(found))


def _switches(command: Any) -> Any:
    """``--lora-mlp/--no-lora-mlp`` for each target, and the article's ``--lora_mlp True``."""
    for target in reversed(TARGETS):
        is_on = target in ("query", "value")
        flag = f"--lora-{target}/--no-lora-{target}"
        command = click.option(flag, target, default=is_on)(command)
        article = click.option(f"--lora_{target}", f"article_{target}", type=bool, hidden=True)
        command = article(command)
    return command


@cli.command(epilog="Example: lora-replication train --study demo --lora-r 4 --lora-mlp")
@click.option("--study", default="article", help="Study with the data, encoder and settings.")
@click.option("--method", help="A method of the study; without it, LoRA with the switches below.")
@click.option("--seed", default=1, help="Random seed.")
@click.option("--lora-r", "--lora_r", "rank", default=8, help="Rank of LoRA.")
@click.option("--lora-alpha", "--lora_alpha", "alpha", default=16.0, help="Factor of the term.")
@_switches
@click.pass_context
def train(
    context: click.Context, /, study: str, method: str | None, seed: int, **given: Any
) -> None:
    """Train one run. The article's own form of the switches, --lora_mlp True, works too."""
    from click.core import ParameterSource

    default = ParameterSource.DEFAULT
    given = {n: v for n, v in given.items() if context.get_parameter_source(n) is not default}
    switches = {name: context.params[name] for name in ("rank", "alpha", *TARGETS)}
    switches |= {
        name.removeprefix("article_"): value
        for name, value in given.items()
        if name.startswith("article_")
    }
    if method is not None and given:
        names = ", ".join(f"--lora-{name.removeprefix('article_')}" for name in given)
        raise ParameterError(
            f"--method {method} and {names} exclude each other; "
            "allowed: a method of the study as it is, or LoRA with the switches"
        )
    from lora_replication.single import train_single

    train_single(study, method, seed, switches)


@cli.command(
    epilog='Example: lora-replication predict adapters/minilm-imdb "A joy from start to end."'
)
@click.argument("run", type=PATH)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--file", type=PATH, help="A file with one text per line; - is standard input.")
@ENCODER_PATH
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="The run's own by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def predict(run: Path, texts: tuple[str, ...], **options: Any) -> None:
    """Predict the class of each TEXT. RUN is a run's folder, or an adapter file."""
    from lora_replication.predict import predict_texts

    predict_texts(run, texts, options.pop("file"), **options)


@cli.command(epilog="Example: lora-replication export adapters/minilm-imdb --to merged my-model")
@click.argument("run", type=PATH)
@click.argument("folder", type=PATH)
@click.option("--to", "form", type=click.Choice(["peft", "merged", "mlflow"]), required=True)
@ENCODER_PATH
@click.option("--register", help="Also add it to this model in the project's MLflow.")
def export(run: Path, folder: Path, form: str, **options: Any) -> None:
    """Export RUN for PEFT, transformers or MLflow. FOLDER must be new or empty."""
    from lora_replication.export import export_run

    click.echo(f"written: {export_run(run, form, folder, **options)}")


@cli.command("import", epilog="Example: lora-replication import my-peft-adapter my-run")
@click.argument("folder", type=PATH)
@click.argument("run", type=PATH)
@ENCODER_PATH
@click.option("--max-tokens", default=512, type=click.IntRange(3, 512), help="Cuts longer texts.")
@click.option("--classes", nargs=2, default=("negative", "positive"), help="Class names, 0 and 1.")
def import_(folder: Path, run: Path, **options: Any) -> None:
    """Import the PEFT adapter in FOLDER as a new RUN. predict and export read it."""
    from lora_replication.export import import_adapter

    import_adapter(folder, run, **options)
    click.echo(f"written: {run}")


@cli.command("article-grid", epilog="Example: lora-replication article-grid results.txt")
@click.argument("file", type=PATH)
@click.option("--folder", type=PATH, help="Where to write; reports/published by default.")
@click.option("--study", help="Compare with the finished configurations of this study's grid.")
def article_grid(file: Path, folder: Path | None, study: str | None) -> None:
    """Report on the grid published with the article. FILE is its author's results file."""
    from lora_replication.reading import ARTICLE, read_study
    from lora_replication.report.published_report import build_published_report
    from lora_replication.workspace import Workspace

    root = project_root()
    target = folder or root / "reports" / "published"
    confidence = read_study(ARTICLE, root).report.confidence
    workspace = Workspace(read_study(study, root), root) if study else None
    build_published_report(file, target, confidence, workspace)
    click.echo(f"report: {target / 'report.html'}")


@cli.command(epilog="Example: lora-replication sync")
@click.option("--ui", default="http://127.0.0.1:5000", help="Address of MLflow's page.")
def sync(ui: str) -> None:
    """Rebuild the MLflow copy from all records. Committed reports are included."""
    from lora_replication.tracking.sync import sync_all

    sync_all(project_root(), ui)
