"""A study, its workspace, and the records and predictions that it could have left there."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lora_replication.data.manifest import MANIFEST, TEST_REVIEWS, Manifest
from lora_replication.files import file_digest
from lora_replication.grid.choice import fresh_runs
from lora_replication.grid.space import grid_runs
from lora_replication.plan import Progress, method_runs, progress
from lora_replication.record import PREDICTIONS, Count, Epoch, Happened, Record, Run, write_record
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Results
from lora_replication.report.summary import summarise
from lora_replication.report.verdicts import judge
from lora_replication.statistics import scores
from lora_replication.study import Study
from lora_replication.workspace import Workspace
from tests.made_runs import WHERE
from tests.study_files import read_params

PARAMETERS = {
    "last_layers": 148_610, "lora_default": 73_728, "lora_tuned": 258_048, "full": 22_713_986,
}  # fmt: skip
TEST_CORRECT = {
    "last_layers": (781, 779, 790), "lora_default": (853, 861, 849),
    "lora_tuned": (866, 871, 858), "full": (872, 869, 880),
}  # fmt: skip

REVIEWS = {"train": 2000, "val": 500, "test": 1000}
SMALL_GRID = {
    "alpha": [1, 16], "rank": [2, 8], "key": [False], "projection": [False], "head": [False],
    "winner_seeds": [101, 102, 103], "runners_up": 0,
}  # fmt: skip


def article_study(**changes: Any) -> Study:
    """The article's study; ``changes`` are laid over its sections."""
    content = read_params()
    for key, value in changes.items():
        merged = key not in ("methods", "run") and isinstance(value, dict)
        content[key] = content[key] | value if merged else value
    return Study.model_validate(content)


def make_study(**changes: Any) -> Study:
    """MiniLM on a part of IMDb: 4 methods with 3 seeds, 8 configurations, 3 fresh seeds."""
    methods = read_params()["run"]["methods"]
    small = {
        "study": "minilm-small",
        "title": "MiniLM on a part of IMDb",
        "data": {"source": "archive", "reviews": REVIEWS},
        "model": {"encoder": "minilm", "path": None, "max_tokens": 256},
        "train": {"device": "cpu", "precision": "fp32"},
        "run": {"methods": methods, "seeds": [1, 2, 3]},
        "grid": SMALL_GRID,
    }
    return article_study(**small | changes)


def make_manifest(source: str = "archive") -> Manifest:
    """A manifest as ``prepare`` writes it."""
    part = {"negative_fraction": 0.503, "reviews_sha256": "a1" * 32, "tokens_sha256": "b2" * 32}
    imdb = source != "generated"
    return Manifest.model_validate(
        {
            "source": source,
            "generated_seed": None if imdb else 1,
            "revision": None,
            "source_files": {"aclImdb_v1.tar.gz": "c3" * 32} if imdb else {},
            "parts": {name: {"reviews": reviews, **part} for name, reviews in REVIEWS.items()},
            "article_csv_sha256": dict.fromkeys(REVIEWS, "d4" * 32) if imdb else None,
            "encoder": {"name": "minilm", "revision": None, "weights_sha256": "53" * 32},
            "vocabulary_sha256": "e5" * 32,
            "max_tokens": 256,
            "lengths": {"mean": 187.25, "median": 190.0, "longest": 256, "cut_fraction": 0.405},
            "repeats": {"of_earlier": 7, "test_in_train": 2, "conflicting": 0},
            "test_reviews_sha256": "f6" * 32,
            "test_movies_in_train_fraction": 0.412 if imdb else None,
        }
    )


def make_workspace(study: Study, root: Path = Path("nowhere")) -> Workspace:
    """A workspace whose manifest is in memory."""
    workspace = Workspace(study, root)
    workspace.manifest = make_manifest(study.data.source)
    return workspace


def count(correct: int, reviews: int) -> Count:
    return Count(correct=correct, reviews=reviews, ones=reviews // 2)


def make_record(run: Run, test_correct: int, parameters: int) -> Record:
    """A run of three epochs whose last one is best."""
    share = test_correct / 1000
    epochs = [
        Epoch(
            epoch=epoch, train_loss=0.6 / epoch, train_accuracy=share - 0.05 + 0.03 * epoch,
            val_loss=0.55 / epoch, val_accuracy=share - 0.04 + 0.013 * epoch, seconds=11.5,
        )
        for epoch in (1, 2, 3)
    ]  # fmt: skip
    train = count(round(2000 * (share + 0.04)), 2000) if run.settings.evaluate_train else None
    happened = Happened(
        status="ok", epochs=epochs, best_epoch=3, train=train, val=count(round(500 * share), 500),
        test=count(test_correct, 1000), trainable_parameters=parameters,
        total_parameters=22_713_986, training_seconds=34.5 + run.seed / 8,
        evaluation_seconds=6.25, tokens_per_second=31_234.5, peak_memory_bytes=1_234_567_890,
    )  # fmt: skip
    return Record(asked=run, happened=happened, where=WHERE)


def make_records(workspace: Workspace) -> list[Record]:
    """Every run that the study asks for, all ok; the grid's third configuration wins."""
    seeds = workspace.study.run.seeds
    records = [
        make_record(run, TEST_CORRECT[run.name][seeds.index(run.seed) % 3], PARAMETERS[run.name])
        for run in method_runs(workspace)
    ]
    for place, run in enumerate(grid_runs(workspace)):
        correct = 875 if place == 2 else 840 + 3 * place % 24
        records.append(make_record(run, correct, 36_864 * (place + 1)))
    return records + (make_fresh(workspace, records) if workspace.study.grid else [])


def make_fresh(workspace: Workspace, records: list[Record]) -> list[Record]:
    """The winner and the configurations next to it, as the grid's ``records`` choose them."""
    cells = [record for record in records if record.asked.role == "cell"]
    made = []
    for place, run in enumerate(fresh_runs(workspace, cells)):
        won = run.role == "winner"
        correct = (868, 861, 874)[place % 3] if won else 860 + run.seed % 3
        made.append(make_record(run, correct, 110_592 if won else 36_864))
    return made


def through_disk(workspace: Workspace, records: list[Record], root: Path) -> Progress:
    """``records`` written below ``root`` as a study leaves them, and what its progress then is."""
    workspace.runs = root / "runs"
    for record in records:
        write_record(record, workspace.folder(record.asked))
    return progress(workspace)


def results_of(
    study: Study, records: list[Record], root: Path, tested: Predictions | None = None
) -> Results:
    """What the report says of ``records``."""
    workspace = make_workspace(study)
    done = through_disk(workspace, records, root)
    tested = tested or Predictions()
    return judge(summarise(study, workspace.manifest, done, tested), tested, study)


def make_predictions(records: list[Record], movies: int = 120) -> Predictions:
    """Predictions that agree with the ``records``: better runs are also right on harder reviews,
    and some of each run's errors are its own.
    """
    generator = np.random.default_rng(5)
    ease = generator.random(1000)
    right = {}
    for record in records:
        if record.asked.role != "cell" and record.happened.test:
            known = np.argsort(ease + 0.3 * generator.random(1000))[: record.happened.test.correct]
            name = (record.asked.role, record.asked.name, record.asked.seed)
            right[name] = np.isin(np.arange(1000), known)
    number = generator.integers(movies, size=1000)
    labels = np.arange(1000) % 2
    return Predictions(
        right,
        {name: scores(_margins(known), labels) for name, known in right.items()},
        movies=np.array([f"tt{movie:07d}" for movie in number]),
        unseen_movie=number < movies // 10,
        repeated=generator.random(1000) < 0.02,
    )


def write_study(workspace: Workspace, records: list[Record], tested: Predictions) -> None:
    """The files of a study's workspace that a report is made from."""
    rows = len(next(iter(tested.right.values()), ()))
    workspace.data.mkdir(parents=True, exist_ok=True)
    known = tested.movies is not None
    reviews = {
        "review": [f"test/pos/{row}_7" for row in range(rows)],
        "movie": tested.movies.tolist() if known else pa.nulls(rows, pa.string()),
        "unseen_movie": tested.unseen_movie.tolist() if known else pa.nulls(rows, pa.bool_()),
        "repeated": [False] * rows if tested.repeated is None else tested.repeated.tolist(),
    }
    pq.write_table(pa.table(reviews), workspace.data / TEST_REVIEWS)
    digest = file_digest(workspace.data / TEST_REVIEWS)
    manifest = workspace.manifest.model_copy(update={"test_reviews_sha256": digest})
    (workspace.data / MANIFEST).write_text(manifest.model_dump_json())
    workspace.manifest = manifest
    for record in records:
        folder = workspace.folder(record.asked)
        write_record(record, folder)
        right = tested.right.get((record.asked.role, record.asked.name, record.asked.seed))
        if right is not None:
            write_predictions(folder, right)


def write_predictions(folder: Path, right: Any) -> None:
    """Predictions of as many test reviews, labels in turn."""
    labels, ones = np.arange(len(right)) % 2, _margins(right) / 2
    table = {"split": ["test"] * len(right), "row": np.arange(len(right)), "label": labels}
    pq.write_table(pa.table({**table, "logit_0": -ones, "logit_1": ones}), folder / PREDICTIONS)


def _margins(right: Any) -> Any:
    """Logit 1 minus logit 0 of reviews whose labels are 0 and 1 in turn."""
    labels = np.arange(len(right)) % 2
    return np.where(np.asarray(right) == (labels == 1), 3.0, -3.0)


def altered(record: Record, **happened: Any) -> Record:
    """``record`` with another outcome."""
    return record.model_copy(update={"happened": record.happened.model_copy(update=happened)})


def diverged(record: Record) -> Record:
    gone: dict[str, Any] = dict.fromkeys(("train", "val", "test", "best_epoch"))
    return altered(record, status="diverged", first_bad_step=17, **gone)
