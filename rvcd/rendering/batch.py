"""`rvcd render` of many files: what is to be done, what is done already, the workers, the manifest, the report."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rvcd.audio.files import FORMATS, remove_leftovers
from rvcd.config.settings import Settings
from rvcd.errors import ParamError, RvcdError
from rvcd.rendering.cluster_pool import ClusterPool
from rvcd.rendering.job_pool import JobPool, Observer
from rvcd.rendering.manifest import Manifest, Record
from rvcd.rendering.messages import Failed, Finished, Job, RenderSetup
from rvcd.rendering.plan import Item, make_plan
from rvcd.rendering.pool import COMMAND, ProcessPool
from rvcd.rendering.report import BatchReport, Row, Status, write_report
from rvcd.rendering.setup import content_hash, render_setup, settings_hash

REPORT_NAME = "rvcd-report.json"
THREADS = 1
"""Of each worker, unless engine.threads says otherwise: workers beside each other use cores better than threads do."""
MOST_JOBS = 256


@dataclass(frozen=True)
class BatchRequest:
    """What to convert. inputs: files, folders and patterns. out: a folder. format: a name of FORMATS, without the dot.

    pitch_mode "": as configured. jobs 0: as many as cores and memory allow. resume: what is finished and unchanged is not done
    again. force: replace files that are no batch's. report: where the JSON goes; None: REPORT_NAME in the output folder. ray: the
    address of a Ray cluster that does the work; "": this machine.
    """

    inputs: tuple[str, ...]
    out: Path
    voice: str = ""
    index: str = ""
    f0_method: str = ""
    rate_hz: int = 0
    params: dict[str, float] = field(default_factory=dict)
    channels: str = "1"
    loudness_lufs: float | None = None
    pitch_mode: str = ""
    format: str = "wav"
    jobs: int = 0
    resume: bool = False
    force: bool = False
    report: Path | None = None
    ray: str = ""


class Watcher(Protocol):
    """Is told how a batch goes on."""

    def begins(self, total: int, waiting: int) -> None:
        """total: files of the batch. waiting: those that are to be converted."""

    def file_begins(self, number: int, source: str) -> None: ...

    def file_advances(self, number: int, done: float) -> None: ...

    def file_ends(self, number: int, row: Row) -> None: ...

    def says(self, text: str) -> None:
        """A sentence that is about no single file's end."""


class Interrupted(Exception):
    """The batch was told to end. number: of the signal. report: on what was done before."""

    def __init__(self, number: int, report: BatchReport) -> None:
        super().__init__(number)
        self.number, self.report = number, report


def run_batch(settings: Settings, request: BatchRequest, watcher: Watcher, command: Sequence[str] = COMMAND) -> BatchReport:
    """Convert everything; files that fail are rows of the report. command: of a worker process.

    Raises RvcdError for what concerns all files: the voice, the settings, the output folder; Interrupted on SIGINT, SIGTERM and
    SIGHUP, when the workers have ended and nothing unfinished is left.
    """
    check_request(request)
    setup = render_setup(
        settings, voice=request.voice, index=request.index, f0_method=request.f0_method, rate_hz=request.rate_hz,
        params=request.params, channels=request.channels, loudness_lufs=request.loudness_lufs, threads=THREADS,
        pitch_mode=request.pitch_mode,
    )  # fmt: skip
    with Manifest(request.out) as manifest, contextlib.ExitStack() as stack:

        def make_pool(observer: Observer) -> JobPool:
            if not request.ray:
                return ProcessPool(setup, request.jobs, observer, command)
            from rvcd.rendering.ray_cluster import connected

            return ClusterPool(setup, request.jobs, observer, stack.enter_context(connected(request.ray, setup, request.out)))

        return _Batch(request, setup, manifest, watcher, make_pool).run()


def check_request(request: BatchRequest) -> None:
    """Raise ParamError for a value that no batch can have."""
    if f".{request.format}" not in FORMATS:
        known = ", ".join(name[1:] for name in FORMATS)
        raise ParamError(f"--format {request.format}: is no format for files; it takes {known}")
    if not 0 <= request.jobs <= MOST_JOBS:
        raise ParamError(f"--jobs {request.jobs}: takes 1..{MOST_JOBS}, or 0 for as many as cores and memory allow")


class _Batch:
    """One run. Observes the pool: keeps the manifest and the rows."""

    def __init__(
        self,
        request: BatchRequest,
        setup: RenderSetup,
        manifest: Manifest,
        watcher: Watcher,
        make_pool: Callable[[Observer], JobPool],
    ) -> None:
        self._request, self._setup, self._manifest, self._watcher = request, setup, manifest, watcher
        self._settings_hash = settings_hash(setup)
        plan = make_plan(request.inputs, request.out, f".{request.format}")
        self._items: list[Item] = plan.items
        self._rows: dict[int, Row] = {}
        self._notes = [*manifest.notes, *plan.notes]
        self._pool = make_pool(self)
        self._before: dict[int, Record | None] = {}
        self._manifest_broken = False

    def run(self) -> BatchReport:
        for note in self._notes:
            self._watcher.says(note)
        jobs = [job for number, item in enumerate(self._items) if (job := self._job_of(number, item))]
        self._watcher.begins(len(self._items), len(jobs))
        for number, row in sorted(self._rows.items()):
            self._watcher.file_ends(number, row)
        began_s = time.monotonic()
        # The longest first: else the last worker may be busy alone for a long time.
        jobs.sort(key=lambda job: -self._items[job.number].size_bytes)
        ended_by = asyncio.run(self._convert(jobs))
        report = self._report(time.monotonic() - began_s)
        write_report(report, self._request.report or self._request.out / REPORT_NAME)
        if ended_by:
            raise Interrupted(ended_by, report)
        return report

    async def _convert(self, jobs: Sequence[Job]) -> int:
        """Run the pool; return the signal that ended it, 0 for none."""
        task = asyncio.ensure_future(self._pool.run(jobs))
        with _cancelled_by_signals(task) as caught:
            try:
                await task
            except asyncio.CancelledError:
                if not caught:
                    raise
        return caught[0] if caught else 0

    def _report(self, seconds: float) -> BatchReport:
        rows = tuple(
            self._rows.get(number) or Row(str(item.source), str(item.target), Status.INTERRUPTED)
            for number, item in enumerate(self._items)
        )
        return BatchReport(rows, seconds, self._pool.workers, self._setup.voice.name, self._settings_hash, tuple(self._notes))

    # ---- before

    def _job_of(self, number: int, item: Item) -> Job | None:
        """Return what is to be done for an item; None where there is nothing, and its row says why."""
        if item.problem:
            self._rows[number] = Row(str(item.source), "", Status.FAILED, item.problem)
            return None
        remove_leftovers(item.target)
        try:
            replace, finished = self._standing(item)
        except RvcdError as error:
            self._rows[number] = Row(str(item.source), str(item.target), Status.FAILED, str(error))
            return None
        if finished is not None:
            self._rows[number] = Row(str(item.source), str(item.target), Status.SKIPPED, rendered=finished.rendered)
            return None
        return Job(number, str(item.source), str(item.target), replace)

    def _standing(self, item: Item) -> tuple[bool, Record | None]:
        """Return whether an item's target may be replaced, and its record if it is finished. Raises RvcdError if neither."""
        target, request = item.target, self._request
        if target.is_dir():
            raise RvcdError(f"{target}: is a folder where a file is to be written; move it away")
        if not target.exists():
            return request.force, None
        record = self._manifest.record_of(self._name_of(target)) if request.resume else None
        if record is None:
            if request.force:
                return True, None
            more = "is no file of a batch" if request.resume else "--resume skips what is finished"
            raise RvcdError(f"{target}: exists already: {more}, --force replaces it")
        if record.rendered is None:  # begun, and ended before this was noted: the file is ours
            return True, None
        if content_hash(target) != record.target_hash:
            if request.force:
                return True, None
            raise RvcdError(f"{target}: was changed since it was rendered: --force replaces it")
        unchanged = record.settings_hash == self._settings_hash and record.source_hash == content_hash(item.source)
        return True, record if unchanged else None

    def _name_of(self, target: Path) -> str:
        return str(target.relative_to(self._request.out))

    # ---- the pool's observer

    def begins(self, job: Job) -> None:
        name = self._name_of(self._items[job.number].target)
        self._before.setdefault(job.number, self._manifest.record_of(name))
        self._keep(Record(name, self._settings_hash, job.source))
        self._watcher.file_begins(job.number, job.source)

    def advances(self, number: int, done: float) -> None:
        self._watcher.file_advances(number, done)

    def ends(self, outcome: Finished | Failed) -> None:
        item = self._items[outcome.number]
        name = self._name_of(item.target)
        if isinstance(outcome, Finished):
            self._keep(
                Record(name, self._settings_hash, str(item.source), outcome.source_hash, outcome.target_hash, outcome.rendered)
            )
            row = Row(str(item.source), str(item.target), Status.DONE, rendered=outcome.rendered)
        else:
            # A file that somebody puts there now must not look as if it was ours.
            if outcome.number in self._before:
                self._keep(self._before[outcome.number] or Record(name, ""))
            row = Row(str(item.source), str(item.target), Status.FAILED, outcome.error)
        self._rows[outcome.number] = row
        self._watcher.file_ends(outcome.number, row)

    def says(self, text: str) -> None:
        self._notes.append(text)
        self._watcher.says(text)

    def _keep(self, record: Record) -> None:
        try:
            self._manifest.add(record)
        except RvcdError as error:
            if not self._manifest_broken:
                self.says(str(error))
            self._manifest_broken = True


@contextlib.contextmanager
def _cancelled_by_signals(task: asyncio.Task[None]) -> Iterator[list[int]]:
    """Let SIGINT, SIGTERM and SIGHUP cancel a task; gives the list into which the first one's number goes."""
    loop, caught = asyncio.get_running_loop(), list[int]()

    def end(number: int) -> None:
        caught.append(number)
        task.cancel()

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, end, number)
    try:
        yield caught
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
