"""The tables of README.md, made from what stands in ``results/``."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.results import (
    AblationResults,
    GridResults,
    Measurement,
    Results,
    Run,
    SamenessResults,
    WorkersResults,
)
from lora_replication.files import write_whole
from lora_replication.statistics import equivalence_test, paired_t
from lora_replication.study import ARTICLE_REVIEWS

ABLATION_HEADINGS = (
    "done without it",
    "expected times longer, and why",
    "times longer, measured",
    "ms per review",
    "as it is",
)

WORKERS_HEADINGS = ("workers", "configurations", "seconds", "of one worker's time")

SAMENESS_HEADINGS = (
    "method",
    "seeds",
    "test accuracy, padded",
    "here",
    "difference in points, 95 % over seeds",
    "p, beyond the margin",
)

MARGIN_IN_POINTS = 1.5
"""Of sameness; as large as what other seeds do to these short runs."""

EPOCHS, CELLS = 3, 576
"""Of the article, for the projections."""

GRID_HEADINGS = (
    "pack", "ms per review and configuration", "times one by one", "peak memory", "share of matrix rate",
    "article's configurations per hour, training alone, projected", "article's grid, projected",
)  # fmt: skip

CONTENDER_NAMES = {"article": "the article's loop", "peft": "HF Trainer", "ours": "this project"}

HEADINGS = (
    "method", "contender", "precision", "ms per review", "real tokens/s", "peak memory", "share of matrix rate", "times this project's",
)  # fmt: skip


def render(runs: Iterable[Run]) -> str:
    """Markdown for runs of one kind: a section for each."""
    sections = {
        Results: _section,
        GridResults: _grid_section,
        AblationResults: _ablation_section,
        WorkersResults: _workers_section,
        SamenessResults: _sameness_section,
    }
    return "\n".join(sections[type(run)](run) for run in runs)  # type: ignore[operator]  # each takes its own kind


def marks(kind: type[Run]) -> tuple[str, str]:
    """The lines of README.md between which the tables of a kind stand."""
    name = kind.folder or "bench"
    return f"<!-- {name}: written by its command -->\n", f"<!-- end of {name} -->"


def show(run: Run, folder: Path) -> None:
    """Write ``run`` into ``folder``'s ``results/``, put all of its kind into its README.md, and
    print it.

    Raises ``ValueError`` where README.md lacks the marks.
    """
    run.write(folder / "results")
    file, (first, last) = folder / "README.md", marks(type(run))
    before, begin, rest = file.read_text("utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(
            f"{file} lacks the line {first.strip()!r} or {last!r}; the results go between them"
        )
    write_whole(
        file,
        (before + begin + render(type(run).read_all(folder / "results")) + end + after).encode(),
    )
    print(render([run]))


def _grid_section(results: GridResults) -> str:
    lines = [
        f"### {results.machine.name}, {results.size}",
        "",
        *_provenance(results),
        _row(GRID_HEADINGS),
        _row(["---"] * len(GRID_HEADINGS)),
    ]
    alone = next((m for m in results.measurements if m.pack == m.batches == 1), None)
    for m in results.measurements:
        shares = [
            m.flops_per_review / s / rate
            for s, rate in zip(m.seconds_per_review, m.matrix_flops_per_second, strict=True)
        ]
        ratios = (
            [
                one / own
                for one, own in zip(alone.seconds_per_review, m.seconds_per_review, strict=True)
            ]
            if alone
            else []
        )
        hours = EPOCHS * ARTICLE_REVIEWS["train"] * median(m.seconds_per_review) / 3600
        lines.append(
            _row(
                [
                    str(m.pack) if m.batches == 1 else f"{m.pack}, on {m.batches} batches at once",
                    _milliseconds(m.seconds_per_review),
                    _spread(ratios, lambda ratio: f"{ratio:.2f}") if ratios else "",
                    f"{m.peak_memory_bytes / 2**30:.2f} GiB",
                    f"{median(shares):.1%}",
                    f"{1 / hours:.2g}",
                    f"{CELLS * hours:,.3g} h",
                ]
            )
        )
    return "\n".join([*lines, ""])


def _ablation_section(results: AblationResults) -> str:
    lines = [f"### {results.machine.name}, {results.size}", "", *_provenance(results)]
    lines += [f"{results.method.replace('_', ' ')}, {results.precision}.", ""]
    lines += [_row(ABLATION_HEADINGS), _row(["---"] * len(ABLATION_HEADINGS))]
    for removal in results.removals:
        ratios = [
            without / own
            for without, own in zip(
                removal.seconds_per_review, removal.seconds_as_it_is, strict=True
            )
        ]
        shown = _spread(ratios, lambda ratio: f"{ratio:.2f}")
        times = [
            _milliseconds(each) for each in (removal.seconds_per_review, removal.seconds_as_it_is)
        ]
        lines.append(_row([removal.name, removal.expected, shown, *times]))
    return "\n".join([*lines, ""])


def _workers_section(results: WorkersResults) -> str:
    lines = [
        f"### {results.machine.name}",
        "",
        *_provenance(results),
        _row(WORKERS_HEADINGS),
        _row(["---"] * len(WORKERS_HEADINGS)),
    ]
    alone = results.seconds_of_sweep[1]
    for workers, seconds in results.seconds_of_sweep.items():
        ratios = [own / one for own, one in zip(seconds, alone, strict=True)]
        cells = [
            _spread(seconds, _number),
            "" if workers == 1 else _spread(ratios, lambda ratio: f"{ratio:.2f}"),
        ]
        lines.append(_row([str(workers), str(results.configurations), *cells]))
    return "\n".join([*lines, ""])


def _sameness_section(results: SamenessResults) -> str:
    subject = f"{results.study}, {results.masks} masks of dropout"
    lines = [
        f"### {results.machine.name}, {subject}",
        "",
        f"{results.title}.",
        "",
        *_provenance(results),
    ]
    lines += [_row(SAMENESS_HEADINGS), _row(["---"] * len(SAMENESS_HEADINGS))]
    for method, ours in results.ours.items():
        first, second = (
            [100 * correct / results.reviews for correct in each]
            for each in (results.padded[method], ours)
        )
        interval = paired_t(first, second, 0.95).difference
        beyond = equivalence_test(
            [b - a for a, b in zip(first, second, strict=True)], MARGIN_IN_POINTS
        )
        seeds, difference = (
            f"{min(results.seeds)} to {max(results.seeds)}",
            f"{interval.estimate:+.2f}",
        )
        if interval.low is not None and beyond is not None:
            difference += f" ({interval.low:+.2f} to {interval.high:+.2f})"
        accuracies = [_spread(each, lambda accuracy: f"{accuracy:.2f}") for each in (first, second)]
        lines.append(
            _row(
                [
                    method.replace("_", " "),
                    seeds,
                    *accuracies,
                    difference,
                    "" if beyond is None else f"{beyond:.2g}",
                ]
            )
        )
    return "\n".join([*lines, ""])


def _provenance(results: Run) -> list[str]:
    machine = results.machine
    where = f"{machine.gpu}, beside it {machine.cpu}" if machine.gpu else machine.cpu
    rate = ""
    if isinstance(results, Results | GridResults):
        rates = [
            rate / 1e12
            for measurement in results.measurements
            for rate in measurement.matrix_flops_per_second
        ]
        rate = f"{results.matrix_precision.removesuffix('-mixed')} matrix rate {_spread(rates, _number)} TFLOP/s. "
    return [
        f"{where}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB of memory, {machine.platform}. "
        f"{rate}Commit {(results.commit or 'unknown')[:12]}{' with changes' if results.changed else ''}, "
        f"{results.started}, {results.seconds / 60:.0f} minutes: `{results.command}`.",
        "",
        ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
        "",
    ]


def speedup(ours: Measurement, peer: Measurement) -> list[float]:
    """Seconds of ``peer`` over seconds of ``ours``, round by round: a ratio is of neighbours in
    time.
    """
    return [
        theirs / own
        for theirs, own in zip(peer.seconds_per_review, ours.seconds_per_review, strict=True)
    ]


def _section(results: Results) -> str:
    lines = [f"### {results.machine.name}", "", *_provenance(results)]
    for size in dict.fromkeys(m.size for m in results.measurements):
        for phase in ("training", "evaluation"):
            shown = [m for m in results.measurements if (m.size, m.phase) == (size, phase)]
            lines += [f"**{size}, {phase}**", "", _row(HEADINGS), _row(["---"] * len(HEADINGS))]
            lines += [
                _row(_cells(measurement, shown, results.mean_tokens)) for measurement in shown
            ]
            lines.append("")
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(measurement: Measurement, shown: Sequence[Measurement], mean_tokens: float) -> list[str]:
    seconds = measurement.seconds_per_review
    shares = [
        measurement.flops_per_review / s / rate
        for s, rate in zip(seconds, measurement.matrix_flops_per_second, strict=True)
    ]
    ours = [m for m in shown if m.contender == "ours" and m.method == measurement.method]
    # A peer in a precision that this project was not measured in stands beside its first.
    own = next((m for m in ours if m.precision == measurement.precision), ours[0])
    return [
        measurement.method.replace("_", " "),
        CONTENDER_NAMES[measurement.contender]
        + (
            " with PEFT" if measurement.contender == "peft" and "lora" in measurement.method else ""
        ),
        measurement.precision,
        _milliseconds(seconds),
        f"{mean_tokens / median(seconds):,.0f}",
        f"{measurement.peak_memory_bytes / 2**30:.2f} GiB",
        f"{median(shares):.1%}",
        ""
        if measurement.contender == "ours"
        else _spread(speedup(own, measurement), lambda ratio: f"{ratio:.1f}"),
    ]


def _milliseconds(seconds: Sequence[float]) -> str:
    return _spread([1000 * one for one in seconds], _number)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """The median, then the least and the greatest."""
    return f"{shown(median(values))} ({shown(min(values))} to {shown(max(values))})"
