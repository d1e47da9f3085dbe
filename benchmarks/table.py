"""``results/README.md``: every result of ``results/`` as a table."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, median

from benchmarks.results import Comparison, Measurement, Results
from lora_replication.files import write_whole

FOLDER = Path(__file__).with_name("results")
TITLE = (
    "# Results of the benchmarks\n\nWritten by their commands; [what they mean](../README.md).\n"
)
CONTENDERS = {"article": "the article's loop", "peft": "HF Trainer", "ours": "this project"}
SPEED = (
    "method", "contender", "pack", "precision", "ms per review and configuration",
    "real tokens/s", "peak memory", "share of matrix rate", "times this project's",
)  # fmt: skip
SAMENESS = ("method", "seeds", "padded, %", "this project, %", "difference in points, 95 %")


def show(results: Results, folder: Path) -> None:
    """Write ``results`` into ``folder``, its README.md anew, and print them."""
    results.write(folder / f"{results.name}.json")
    write_whole(folder / "README.md", page(Results.read_all(folder)).encode())
    print(render(results))


def page(everything: Iterable[Results]) -> str:
    """All results as Markdown."""
    return "\n".join([TITLE, *map(render, everything)])


def render(results: Results) -> str:
    """A section for one run of a benchmark."""
    lines = [
        f"## {results.kind}: {' '.join(filter(None, (results.machine.name, results.subject)))}"
    ]
    lines += ["", *([results.title, ""] if results.title else []), *_provenance(results)]
    if results.measurements:
        lines += ["", *_table(("size", "phase", *SPEED), _speed_rows(results))]
    if results.comparisons:
        lines += ["", *_table(SAMENESS, map(_sameness_row, results.comparisons))]
    checks = [(each.name, "yes" if each.passed else "NO", each.detail) for each in results.checks]
    lines += ["", *_table(("check", "holds", "numbers"), checks)] if checks else []
    lines += ["", *(f"- {line}" for line in results.finished)] if results.finished else []
    lines += ["", *(f"- not done: {line}" for line in results.skipped)] if results.skipped else []
    return "\n".join([*lines, ""])


def speedup(ours: Measurement, peer: Measurement) -> list[float]:
    """Seconds of ``peer`` over those of ``ours``, round by round: of neighbours in time."""
    pairs = zip(peer.seconds_per_review, ours.seconds_per_review, strict=True)
    return [theirs / own for theirs, own in pairs]


def _provenance(results: Results) -> list[str]:
    where = results.machine
    driver = f" (driver {where.driver})" if where.driver else ""
    rates = [rate / 1e12 for m in results.measurements for rate in m.matrix_flops_per_second]
    shown = (
        f"{results.matrix_precision} matrix rate {_spread(rates, _number)} TFLOP/s. "
        if rates
        else ""
    )
    return [
        f"{f'{where.gpu}{driver}, ' if where.gpu else ''}{where.cpu}, {where.cores} cores, "
        f"{where.memory_bytes / 2**30:.0f} GiB of memory, {where.platform}. "
        f"{shown}Commit {(results.commit or 'unknown')[:12]}"
        f"{' with changes' if results.changed else ''}, {results.started}, "
        f"{results.seconds / 60:.0f} minutes: `{results.command}`.",
        "",
        ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
    ]


def _speed_rows(results: Results) -> Iterable[Sequence[str]]:
    for m in results.measurements:
        own = [
            each
            for each in results.measurements
            if (each.size, each.method, each.phase) == (m.size, m.method, m.phase)
            and (each.contender, each.pack) == ("ours", 1)
        ]
        # A peer in a precision that this project was not measured in is next to its first.
        own = [each for each in own if each.precision == m.precision] or own
        pairs = zip(m.seconds_per_review, m.matrix_flops_per_second, strict=True)
        peft = " with PEFT" if m.contender == "peft" and "lora" in m.method else ""
        yield (
            m.size,
            m.phase,
            m.method.replace("_", " "),
            CONTENDERS[m.contender] + peft,
            str(m.pack),
            m.precision,
            _spread([1000 * seconds for seconds in m.seconds_per_review], _number),
            f"{(results.mean_tokens or 0) / median(m.seconds_per_review):,.0f}",
            f"{m.peak_memory_bytes / 2**30:.2f} GiB",
            f"{median(m.flops_per_review / seconds / rate for seconds, rate in pairs):.1%}",
            "" if not own or m is own[0] else _spread(speedup(own[0], m), "{:.2f}".format),
        )


def _sameness_row(each: Comparison) -> Sequence[str]:
    from scipy.stats import ttest_rel

    padded, ours = (
        [100 * right / each.reviews for right in own] for own in (each.padded, each.ours)
    )
    shown = f"{mean(ours) - mean(padded):+.2f}"
    if len(ours) > 1 and ours != padded:
        low, high = ttest_rel(ours, padded).confidence_interval(0.95)
        shown += f" ({low:+.2f} to {high:+.2f})"
    accuracies = (_spread(own, "{:.2f}".format) for own in (padded, ours))
    seeds = f"{min(each.seeds)} to {max(each.seeds)}"
    return each.method.replace("_", " "), seeds, *accuracies, shown


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (headings, ["---"] * len(headings), *rows)]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """The median, then the least and the greatest."""
    return f"{shown(median(values))} ({shown(min(values))} to {shown(max(values))})"
