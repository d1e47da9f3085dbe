"""A study and the records that it could have left behind, for the tests of the report."""

from pathlib import Path
from typing import Any

import numpy as np

from lora_replication.data.manifest import Manifest
from lora_replication.grid.choice import runners_up
from lora_replication.grid.space import cell_jobs, runner_up_jobs, winner_jobs
from lora_replication.jobs import Job, method_jobs
from lora_replication.reading import check_study, merge_files
from lora_replication.files import digest
from lora_replication.record import (
    Run,
    Count,
    Epoch,
    Happened,
    Record,
    Where,
    read_records,
    run_folder,
    write_record,
)
from lora_replication.report.answers import Answers
from lora_replication.study import Study

PARAMS = Path(__file__).parent.parent / "params.yaml"
PARAMETERS = {
    "last_layers": 148_610,
    "lora_default": 73_728,
    "lora_tuned": 258_048,
    "full": 22_713_986,
}
TEST_CORRECT = {
    "last_layers": (781, 779, 790),
    "lora_default": (853, 861, 849),
    "lora_tuned": (866, 871, 858),
    "full": (872, 869, 880),
}
REVIEWS = {"train": 2000, "val": 500, "test": 1000}


def make_study(**changes: Any) -> Study:
    """MiniLM on a part of IMDb: 4 methods with 3 seeds, 8 configurations, 3 fresh seeds;
    ``changes`` replace whole keys.
    """
    content: dict[str, Any] = merge_files(PARAMS)
    content["study"] = "minilm-small"
    content["title"] = "MiniLM on a part of IMDb"
    content["data"] |= {"source": "archive", "reviews": REVIEWS}
    content["model"] = {"encoder": "minilm", "path": None, "max_tokens": 256}
    content["train"] |= {"device": "cpu", "precision": "fp32"}
    content["run"]["seeds"] = [1, 2, 3]
    content["grid"] |= {
        "alpha": [1, 16],
        "rank": [2, 8],
        "key": [False],
        "projection": [False],
        "head": [False],
        "winner_seeds": [101, 102, 103],
        "runners_up": 0,
    }
    return check_study(content | changes)


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
            "test_movies_in_train_fraction": 0.412 if imdb else None,
        }
    )


def count(correct: int, reviews: int) -> Count:
    return Count(correct=correct, reviews=reviews, ones=reviews // 2)


def make_happened(job: Job, test_correct: int, parameters: int) -> Happened:
    """A run of three epochs whose last one is best."""
    share = test_correct / 1000
    epochs = [
        Epoch(
            epoch=epoch,
            train_loss=0.6 / epoch,
            train_accuracy=share - 0.05 + 0.03 * epoch,
            val_loss=0.55 / epoch,
            val_accuracy=share - 0.04 + 0.013 * epoch,
            seconds=11.5,
        )
        for epoch in (1, 2, 3)
    ]
    return Happened(
        status="ok",
        epochs=epochs,
        best_epoch=3,
        train=count(round(2000 * (share + 0.04)), 2000) if job.settings.evaluate_train else None,
        val=count(round(500 * share), 500),
        test=count(test_correct, 1000),
        trainable_parameters=parameters,
        total_parameters=22_713_986,
        training_seconds=34.5 + job.seed / 8,
        evaluation_seconds=6.25,
        tokens_per_second=31_234.5,
        peak_memory_bytes=1_234_567_890,
    )


def make_record(study: Study, job: Job, happened: Happened) -> Record:
    settings = job.settings.as_dict()
    decides = {
        "settings": settings,
        "seed": job.seed,
        "data": "f6" * 32,
        "weights": "53" * 32,
        "code": "97" * 32,
    }
    where = Where(
        git_commit="0123456789abcdef0123456789abcdef01234567",
        git_dirty=False,
        versions={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        cpu="Example CPU @ 2.50GHz",
        cores=2,
        memory_bytes=8 * 2**30,
        gpu=None,
        threads=2,
        platform="Linux 6.1 x86_64",
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:05:05+00:00",
        data_source=study.data.source,
        data_revision=None,
        encoder_revision=None,
    )
    asked = Asked(
        study=study.study,
        title=study.title,
        role=job.role,
        name=job.name,
        key=digest(decides),
        **decides,
    )
    return Record(asked=asked, happened=happened, where=where)


def make_records(study: Study) -> list[Record]:
    """Every run that ``study`` asks for, all ok; the grid's third configuration wins."""
    records = []
    for job in method_jobs(study):
        correct = TEST_CORRECT[job.name][study.run.seeds.index(job.seed) % 3]
        records.append(make_record(study, job, make_happened(job, correct, PARAMETERS[job.name])))
    cells = cell_jobs(study)
    for place, job in enumerate(cells):
        records.append(
            make_record(
                study,
                job,
                make_happened(
                    job, 875 if place == 2 else 840 + 3 * place % 24, 36_864 * (place + 1)
                ),
            )
        )
    for place, job in enumerate(winner_jobs(study, cells[2])):
        records.append(
            make_record(study, job, make_happened(job, (868, 861, 874)[place % 3], 110_592))
        )
    return records + make_beside(study, records)


def make_beside(study: Study, records: list[Record]) -> list[Record]:
    """The runs beside the grid's winner that the configurations among ``records`` ask for."""
    cells = {record.asked.name: record for record in records if record.asked.role == "cell"}
    jobs = runner_up_jobs(study, runners_up(study, cell_jobs(study), cells))
    return [make_record(study, job, make_happened(job, 860 + job.seed % 3, 36_864)) for job in jobs]


def through_disk(study: Study, records: list[Record], root: Path) -> list[Record]:
    """``records`` written to ``root`` as a study leaves them, and read back."""
    for record in records:
        write_record(
            record,
            run_folder(study.study, record.asked.role, record.asked.name, record.asked.seed, root),
        )
    return [record for _, record in read_records(study.study, root)]


def make_answers(records: list[Record], movies: int = 120) -> Answers:
    """Answers that agree with the ``records``: better runs also know harder reviews, and some of
    each run's errors are its own.
    """
    generator = np.random.default_rng(5)
    ease = generator.random(1000)
    right = {}
    for record in records:
        if record.asked.role != "cell" and record.happened.test:
            known = np.argsort(ease + 0.3 * generator.random(1000))[: record.happened.test.correct]
            right[record.asked.role, record.asked.name, record.asked.seed] = np.isin(
                np.arange(1000), known
            )
    number = generator.integers(movies, size=1000)
    names = np.array([f"tt{movie:07d}" for movie in number])
    return Answers(
        right,
        movies=names,
        unseen_movie=number < movies // 10,
        repeated=generator.random(1000) < 0.02,
    )


def altered(record: Record, **happened: Any) -> Record:
    """``record`` with another outcome."""
    return record.model_copy(update={"happened": record.happened.model_copy(update=happened)})


def diverged(record: Record) -> Record:
    return altered(
        record,
        status="diverged",
        first_bad_step=17,
        train=None,
        val=None,
        test=None,
        best_epoch=None,
    )
