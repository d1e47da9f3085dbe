"""Results files as the author's script writes them, with made-up accuracies."""

from lora_replication.allowed import TARGETS
from lora_replication.article.published_file import RULE, PublishedCell, article_space

SPACE = article_space()


def block_of(cell: PublishedCell) -> str:
    switches = (f"lora_{target}: {target in cell.targets}" for target in TARGETS)
    train, val, test = cell.percents
    lines = [
        RULE, f"lora_r: {cell.rank}", f"lora_alpha: {cell.alpha}", *switches, "device: 2",
        "verbose: False", f"Train acc: {train:.2f}%", f"Val acc:   {val:.2f}%",
        f"Test acc:  {test:.2f}%", RULE,
    ]  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def text_of(cells: list[PublishedCell]) -> bytes:
    return "".join(map(block_of, cells)).encode()


def made_up(count: int) -> list[PublishedCell]:
    """The first ``count`` configurations with made-up results."""
    return [
        PublishedCell(lora.rank, int(lora.alpha), lora.targets, 90 + place % 7, 89.5,
                      88 + place % 5 / 4)
        for place, lora in enumerate(SPACE[:count])
    ]  # fmt: skip


def collapsed(cell: PublishedCell) -> PublishedCell:
    return PublishedCell(cell.rank, cell.alpha, cell.targets, 49.86, 50.84, 50.06)
