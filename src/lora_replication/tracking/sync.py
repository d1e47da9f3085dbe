"""MLflow rebuilt from the records, one whole run for each; and the experiments' saved views."""

import base64
import json
import time
import zlib
from collections import Counter, defaultdict
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lora_replication.data.manifest import Manifest, read_manifest
from lora_replication.errors import DataError, EnvironmentProblem, ReplicationError
from lora_replication.files import digest, file_digest, is_locked, only_writer
from lora_replication.reading import read_study, study_names
from lora_replication.record import RECORD, Record, read_records
from lora_replication.study import Study
from lora_replication.tracking import content
from lora_replication.tracking.store import RECORD_DIGEST, Store, database_file, failures, resolved
from lora_replication.workspace import Workspace

ADDED, COMPLETED, PRESENT = "added", "completed", "already there"
RUNNING, KILLED = "left to the process that runs it", "ended as killed"

VIEW_TAG = "mlflow.sharedViewState."
REPORT_VERSION = "report_version"
"""Tag of what is made from a report: digest of the report's files; set after everything else."""

SHOWN = ("report.html", "card.md", "table.csv", "figures/*.png")
"""Of a report, in MLflow."""


@cache
def views() -> dict[str, dict[str, Any]]:
    """What ``views.yaml`` says."""
    return dict(YAML(typ="safe", pure=True).load(Path(__file__).with_name("views.yaml")))


def sync_all(root: Path, page: str) -> None:
    """Bring MLflow to what the records of all studies say; print a line for each study, with a link
    where MLflow's page is at the address ``page``.

    Raises:
        ReplicationError: of the first study that failed, with all that failed; the others are done.
    """
    failed: dict[str, list[str]] = defaultdict(list)
    kinds: list[type[ReplicationError]] = []
    stores: dict[tuple[str, str], Store] = {}
    with only_writer(root / "build" / "state" / "sync.lock"):
        for name in study_names(root):
            try:
                study = read_study(name, root)
                address = resolved(study.tracking.uri), study.tracking.experiment
                done, link = sync(study, root, stores.setdefault(address, Store(*address)))
            except ReplicationError as problem:
                failed[str(problem)].append(name)
                kinds.append(type(problem))
            else:
                told = f"{_in_words(done)}\n  {page}/{link}" if link else "no runs yet"
                print(f"{name}: {told}", flush=True)
    if failed:
        raise kinds[0]("\n".join(f"{', '.join(names)}: {told}" for told, names in failed.items()))


def _in_words(done: Counter[str]) -> str:
    runs = "1 run" if done[ADDED] == 1 else f"{done[ADDED]} runs"
    always = f"{runs} added, {done[COMPLETED]} completed, {done[PRESENT]} already there"
    return ", ".join(
        [always, *(f"{done[what]} {what}" for what in (RUNNING, KILLED) if done[what])]
    )


def sync(study: Study, root: Path, store: Store) -> tuple[Counter[str], str]:
    """Bring MLflow to what the records of ``study`` say; a second call changes nothing.

    Returns:
        How many records were ADDED, COMPLETED, PRESENT or RUNNING, and MLflow runs KILLED; and the
        link to the study's runs in MLflow's page.

    Raises:
        DataError: a file is not a record.
        EnvironmentProblem: MLflow or its address fails, now or for a study before.
    """
    if store.is_quiet:
        raise EnvironmentProblem(store.trouble)
    records = _records(study, root)
    file = database_file(store.uri)
    if not records and file and not file.exists():
        return Counter(), ""
    try:
        return _rebuild(store, Workspace(study, root), records)
    except failures() as problem:
        raise EnvironmentProblem(store.give_up(problem)) from None


def _records(study: Study, root: Path) -> list[tuple[Path, Record]]:
    """The study's records, each once; published ones where no other is of that place and key."""
    local = _own(Workspace(study, root)) | _own(Workspace(study, root, "singles"))
    known = {(record.asked.place, record.asked.key) for _, record in local.values()}
    published = _own(Workspace.published(study, root)).values()
    more = [one for one in published if (one[1].asked.place, one[1].asked.key) not in known]
    return [*local.values(), *more]


def _own(workspace: Workspace) -> dict[str, tuple[Path, Record]]:
    """By digest the records that are in their own folder; copies elsewhere are left out."""
    return {
        file_digest(folder / RECORD): (folder, record)
        for folder, record in read_records(workspace.runs)
        if workspace.holds(folder, record)
    }


def _rebuild(
    store: Store, workspace: Workspace, records: list[tuple[Path, Record]]
) -> tuple[Counter[str], str]:
    done: Counter[str] = Counter()
    known: dict[tuple[str | None, str | None], list[Any]] = defaultdict(list)
    experiment = store.experiment(workspace.study.study)
    for run in store.runs(experiment.experiment_id) if experiment else ():
        known[run.data.tags.get("place"), run.data.tags.get("record_key")].append(run)
    running = {
        run.info.run_id: is_locked(workspace.lock(place))
        for (place, _), runs in known.items()
        for run in runs
        if place and run.info.status == "RUNNING"
    }
    alive = {run_id for run_id, locked in running.items() if locked}
    data = _manifests(workspace.data, workspace.report / "data")
    for folder, record in records:
        tags = content.run_tags(record.asked)
        found = _compare(store, folder, record, known[tags["place"], tags["record_key"]], alive)
        if found in (ADDED, COMPLETED):
            store.copy(folder, record, data.get(record.asked.data))
        done[found] += 1
    for run_id in running.keys() - alive:
        # Asked again, as its process may have ended it since.
        if store.call("get_run", run_id).info.status == "RUNNING":
            store.call("set_terminated", run_id, "KILLED")
            done[KILLED] += 1
    experiment, about = store.experiment(workspace.study.study), workspace.study.title
    if not experiment:
        return done, ""
    with suppress(DataError):  # there is no report yet
        about = _show_report(store, experiment.experiment_id, workspace.report, records)
    return done, describe(store, experiment, about)


def _manifests(*folders: Path) -> dict[str, Manifest]:
    """The manifests that are in ``folders``, by the digest that runs name."""
    found = []
    for folder in folders:
        with suppress(DataError):
            found.append(read_manifest(folder))
    return {manifest.digest: manifest for manifest in found}


def _show_report(
    store: Store, experiment_id: str, folder: Path, records: list[tuple[Path, Record]]
) -> str:
    """Bring the parents of ``records`` and the run ``Report`` to what the report in ``folder``
    says; returns its title and table. Raises ``DataError`` where there is none.
    """
    from lora_replication.report.build import read_results  # pandas takes a second
    from lora_replication.report.tables import terminal_table

    results, now = read_results(folder), time.time_ns() // 1_000_000
    asked = {(r.asked.role, r.asked.name, r.asked.key): r.asked for _, r in records}
    files = [file for name in SHOWN for file in sorted(folder.glob(name))]
    version = digest([file_digest(file) for file in files])[: content.SHORT]
    for row, tags, metrics in content.summaries(results):
        if run := asked.get((row.role, row.name, row.key)):
            parent = store.call("get_run", store.parent_id(run))
            if parent.data.tags.get(REPORT_VERSION) != version:
                own = {**tags, REPORT_VERSION: version}.items()
                store.log(parent.info.run_id, content.points(metrics, now, 0), own)
    old = store.runs(experiment_id, "tags.role = 'report'")
    if [run.data.tags.get(REPORT_VERSION) for run in old] != [version]:
        for run in old:
            store.call("delete_run", run.info.run_id)
        about = results.reservation or results.title
        tags = content.AUTHOR_TAGS | {"role": "report", "mlflow.note.content": about}
        run_id = store.call("create_run", experiment_id, now, tags, "Report").info.run_id
        for file in files:
            inside = None if file.parent == folder else file.parent.name
            store.call("log_artifact", run_id, str(file), inside)
        store.call("set_tag", run_id, REPORT_VERSION, version)
        store.call("set_terminated", run_id)
    table = terminal_table(results)
    return f"{results.title}\n\n```\n{table[table.index('Method ') :]}\n```"


def _compare(store: Store, folder: Path, record: Record, runs: list[Any], alive: set[str]) -> str:
    """Whether one of ``runs``, all of its place and key, is its copy; half a copy is removed."""
    whole = file_digest(folder / RECORD)
    same = [run for run in runs if run.data.tags.get(RECORD_DIGEST) == whole]
    status = content.RUN_STATUS[record.happened.status]
    if any(run.info.status == status for run in same):
        return PRESENT
    if any(run.info.run_id in alive for run in runs):
        return RUNNING
    # A run with another record's digest is an earlier attempt and stays.
    partial = (same or [run for run in runs if RECORD_DIGEST not in run.data.tags])[-1:]
    for run in partial:  # what it has may be of another version, so a whole one takes its place
        store.call("set_terminated", run.info.run_id, "KILLED")
        store.call("delete_run", run.info.run_id)
        runs.remove(run)
    return COMPLETED if partial else ADDED


def describe(store: Store, experiment: Any, about: str) -> str:
    """Give ``experiment`` its description and its views; returns the first one's link."""
    tags = {"mlflow.note.content": about}
    for key, state in views().items():
        packed = zlib.compress(json.dumps(state | {"orderByAsc": False}).encode())
        made = {"createdAt": experiment.creation_time, "updatedAt": experiment.creation_time}
        name = key.replace("-", " ").capitalize()
        view = {"name": name, **made, "state": "deflate;" + base64.b64encode(packed).decode()}
        tags[VIEW_TAG + key] = json.dumps(view)
    for tag, value in tags.items():
        if experiment.tags.get(tag) != value:
            store.call("set_experiment_tag", experiment.experiment_id, tag, value)
    query = f"viewStateShareKey={next(iter(views()))}&workflowType=machine_learning"
    return f"#/experiments/{experiment.experiment_id}/runs?{query}"
