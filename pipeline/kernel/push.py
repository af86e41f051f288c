"""What was built, brought to Kaggle and run there: uploads first, then the notebook, its log, its output, the submission.

Kaggle's command line prints its errors and ends well; here every answer is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.kernel.account import REMEDY, Client, Missing
from pipeline.kernel.built import ADAPTERS, DATASET, KERNEL
from pipeline.kernel.metadata import DatasetMetadata, KernelMetadata, VariationMetadata
from pipeline.kernel.uploads import Uploads, status, there

log = logging.getLogger(__name__)

PROCESSING = 3600  # seconds that Kaggle has for an upload
QUEUED, RUNNING = ("QUEUED", "NEW_SCRIPT"), ("RUNNING", "CANCEL_REQUESTED")
INVALID = ("dataset_sources", "competition_sources", "kernel_sources", "model_sources", "tags")
SUBMISSION = "submission.csv"


def push(
    kaggle: Client,
    uploads: Uploads,
    *,
    user: str | None = None,
    notes: str = "",
    message: str | None = None,
    skip_existing: bool = False,
    every: float = 15,
) -> Path | None:
    """Upload what there is and run its notebook; where its output lies, output/VERSION beside it.

    `user` is whose account it is, `notes` go with the versions, `message` submits the output, `skip_existing` leaves adapters
    alone whose version is on Kaggle already, and `every` is the seconds between two looks. Raises `InputError` where Kaggle
    refuses something or the notebook fails.
    """
    folder = uploads.folder
    if user and (others := sorted(uploads.owners - {user.lower()})):
        raise InputError("kernel.yaml, owner", found=", ".join(others), wanted=user, remedy="Name yourself, and build again.")
    if message is not None and not uploads.competition:
        raise InputError("--submit", found="a notebook of no competition", wanted="one that enters it", remedy="Leave it out.")
    found = there(kaggle, uploads, skip_existing)
    if dataset := uploads.dataset:
        _dataset(kaggle, dataset, folder / DATASET, found.get(dataset.id, 0), notes, every)
    if uploads.model and uploads.model.reference not in found:
        _accepted(kaggle("model_create_new", folder=str(folder / ADAPTERS)), "model_create_new")
    for path, variation in uploads.variations.items():
        if (version := uploads.version(variation)) > found[variation.source]:
            _variation(kaggle, variation, path, version, notes, every)
    if not uploads.kernel:
        return None
    version = _kernel(kaggle, uploads.kernel, folder / KERNEL)
    output = folder / "output" / str(version)
    _run(kaggle, uploads.kernel, version, output, every)
    if message is not None:
        answer = kaggle(
            "competition_submit_code",
            file_name=SUBMISSION,
            message=message,
            competition=uploads.competition,
            kernel=uploads.kernel.id,
            kernel_version=version,
        )
        log.info("%s", answer.message)
    return output


def _dataset(kaggle: Client, dataset: DatasetMetadata, folder: Path, before: int, notes: str, every: float) -> None:
    """Upload a dataset, a new one or the version behind `before`, and wait until Kaggle has processed it."""
    method, more = ("dataset_create_version", {"version_notes": notes}) if before else ("dataset_create_new", {})
    _accepted(kaggle(method, folder=str(folder), **more, quiet=True), method)

    def ready() -> bool:
        told = status(kaggle, dataset.id)
        if told["status"] in ("failed", "deleted"):
            raise InputError(dataset.id, found=told["status"], wanted="a dataset that Kaggle has processed", remedy=REMEDY)
        return bool(told["status"] == "ready" and told["current_version_number"] > before)

    _wait(ready, dataset.id, every)
    _whole(folder, lambda token: kaggle("dataset_list_files", dataset=dataset.id, page_token=token, page_size=100))


def _variation(kaggle: Client, variation: VariationMetadata, folder: Path, version: int, notes: str, every: float) -> None:
    """Upload an adapter, a new one or another version of it, and wait until Kaggle has processed it."""
    method, more = "model_instance_create", {}
    if version > 1:
        method, more = "model_instance_version_create", {"model_instance": variation.source, "version_notes": notes}
    _accepted(kaggle(method, folder=str(folder), **more, quiet=True), method)
    source = f"{variation.source}/{version}"

    def files(token: str | None) -> Any:
        return kaggle("model_instance_version_files", model_instance_version=source, page_token=token, page_size=100)

    def ready() -> bool:
        try:
            return bool(files(None).files)
        except Missing:
            return False

    _wait(ready, source, every)
    _whole(folder, files)


def _whole(folder: Path, page: Callable[[str | None], Any]) -> None:
    """Raise `InputError` where Kaggle lacks a file of the folder: its client leaves out one whose upload failed."""
    missing, token = {path.name for path in folder.iterdir()} - {DatasetMetadata.FILE, VariationMetadata.FILE}, None
    while True:
        listed = page(token)
        missing -= {file.name for file in listed.files}
        if not (token := listed.next_page_token):
            break
    if missing:
        found = f"no {', '.join(sorted(missing))}"
        raise InputError(f"{folder}, on Kaggle", found=found, wanted="every file of it", remedy="Push again.")


def _kernel(kaggle: Client, kernel: KernelMetadata, folder: Path) -> int:
    """Push the notebook, which starts it; its version."""
    answer = kaggle("kernels_push", folder=str(folder))
    _accepted(answer, "kernels_push")
    for kind in INVALID:
        if refused := getattr(answer, f"invalid_{kind}"):
            raise InputError(
                f"{kernel.id}, {kind}",
                found=f"{', '.join(refused)}, without which Kaggle runs the notebook now",
                wanted="what you may use: a competition whose rules, a model whose licence you have accepted",
                remedy="Open it on Kaggle and see, stop the run, and push again.",
            )
    version: int = answer.version_number
    log.info("%s, version %d, runs: %s", kernel.id, version, answer.url)
    return version


def _run(kaggle: Client, kernel: KernelMetadata, version: int, output: Path, every: float) -> None:
    """Follow the notebook's log to its end and fetch what it leaves, a failed one's too."""

    def over(but: tuple[str, ...]) -> Any:
        while (session := kaggle("kernels_status", kernel=kernel.id)).status.name in but:
            time.sleep(every)
        return session

    over(QUEUED)
    kaggle("kernels_logs_cli", kernel=kernel.id, follow=True)
    session = over(QUEUED + RUNNING)
    files, _ = kaggle("kernels_output", kernel=kernel.id, path=str(output), force=True)
    found = None
    if session.status.name != "COMPLETE":
        found = f"{session.status.name.lower()}: {session.failure_message or 'Kaggle says no more'}"
    elif kernel.competition_sources and SUBMISSION not in {Path(file).name for file in files}:
        found = f"no {SUBMISSION}"
    if found:
        where, wanted = f"{kernel.id}, version {version}", "a run to its end, with what it is to leave"
        raise InputError(where, found=found, wanted=wanted, remedy=f"See its log in {output}.")


def _accepted(answer: Any, method: str) -> None:
    """Raise `InputError` for an answer that carries an error."""
    done = getattr(answer, "status", "ok").lower() == "ok" and getattr(answer, "id", True)
    if answer.error or not done:
        raise InputError(f"Kaggle, {method}", found=answer.error or "no reason", wanted="its consent", remedy=REMEDY)


def _wait(ready: Callable[[], bool], what: str, every: float) -> None:
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > PROCESSING:
            found = f"not processed after {PROCESSING} s"
            raise InputError(what, found=found, wanted="a version to use", remedy="Look for it on Kaggle.")
        time.sleep(every)
