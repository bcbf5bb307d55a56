"""Recording, seen from the control process: one child process a recording does the work (rvcd.recorder).

Nothing here touches the disk, so no mount that hangs can stop the event loop: the child is asked, and given up when it is silent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rvcd.config.folders import recordings_folder
from rvcd.errors import RvcdError
from rvcd.ipc.child import KILLED_LIMIT_S, Child
from rvcd.ipc.messages import Began, Ended, FromRecorder, LogLine, Record, Refused, StopAt
from rvcd.ipc.python_module import module_command
from rvcd.ipc.segment import AudioSegment

if TYPE_CHECKING:
    from rvcd.config.settings import Record as RecordConfig

START_LIMIT_S = 10.0
"""How long a folder may take to answer before the recording is refused."""
STOP_LIMIT_S = 10.0
"""How long the end of a recording may take to reach the disk."""
MAX_NAME_BYTES = 130
"""Of the file's name, without "-2.flac": encrypted folders (eCryptfs) take 143."""
COMMAND: tuple[str, ...] = module_command("rvcd.recorder.main")

log = logging.getLogger("rvcd.record")


@dataclass(frozen=True)
class RecordSettings:
    """Where recordings go and what ends one. min_free_mb: millions of bytes that must stay free on the folder's disk."""

    folder: Path
    min_free_mb: int = 500
    max_minutes: int = 180


def record_settings(chosen: RecordConfig) -> RecordSettings:
    """Return what the configuration's [record] means; an empty folder is folders.recordings_folder()."""
    folder = Path(chosen.folder) if chosen.folder else recordings_folder()
    return RecordSettings(folder, chosen.min_free_mb, chosen.max_minutes)


def file_name(voice: str, at: time.struct_time) -> str:
    """Return 'rvcd_2026-11-22_23-40-05_VOICE', without an extension. voice "": none; what no file system likes becomes '-'."""
    name = time.strftime("rvcd_%Y-%m-%d_%H-%M-%S", at)
    if voice:
        name += "_" + re.sub(r"[^\w.]+", "-", voice)
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


class Recording:
    """At most one recording at a time. All methods on the event loop's thread.

    on_end(reason): called when a recording ends by itself, with a sentence: a full disk, the longest time, a crash.
    """

    def __init__(
        self,
        segment: AudioSegment,
        settings: RecordSettings,
        on_end: Callable[[str], None] = lambda reason: None,
        *,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.segment, self.settings, self.on_end = segment, settings, on_end
        self._command = command
        self._recorder: _Recorder | None = None
        self._start = 0

    @property
    def active(self) -> bool:
        """Whether a file is being written."""
        return self._recorder is not None and self._recorder.path is not None

    @property
    def path(self) -> Path | None:
        """The file being written."""
        return self._recorder.path if self._recorder is not None else None

    @property
    def pid(self) -> int | None:
        """Process number of the recorder, if there is one."""
        return self._recorder.pid if self._recorder is not None else None

    @property
    def seconds(self) -> float:
        """How long the present recording is, 0.0 without one. It does not grow while there is no audio device."""
        return (self.segment.device_position() - self._start) / self.segment.rate_hz if self.active else 0.0

    async def start(self, voice: str = "") -> Path:
        """Record from this moment on, and return the file once it is there. voice: for the file's name.

        Raises RvcdError with one sentence: already recording, no folder, a full disk, a disk that does not answer.
        """
        if self._recorder is not None:
            where = self._recorder.path or "a file that is being made"
            raise RvcdError(f"already recording to {where}: end that recording first")
        self._start = self.segment.device_position()
        request = Record(
            folder=str(self.settings.folder),
            name=file_name(voice, time.localtime()),
            voice=voice,
            start=self._start,
            min_free_bytes=self.settings.min_free_mb * 10**6,
            max_samples=self.settings.max_minutes * 60 * self.segment.rate_hz,
        )
        recorder = self._recorder = _Recorder(self.segment, request, self._ended_by_itself)
        try:
            path = await recorder.begin(self._command)
        except BaseException:
            if self._recorder is recorder:
                self._recorder = None
            await recorder.give_up()
            raise
        log.info("recording to %s", path)
        return path

    async def stop(self) -> Ended | None:
        """End the recording at this moment, and return what was written once it is on disk; None when there was none.

        One that is still being started is called off. Raises RvcdError when the file may lack its end, or nothing was recorded.
        """
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return None
        if recorder.path is None:
            await recorder.give_up()
            return None
        try:
            ended = await recorder.stop(self.segment.device_position())
        except BaseException:
            await recorder.give_up()
            raise
        self._tell(ended)
        if ended.reason:
            raise RvcdError(ended.reason)
        return ended

    def _ended_by_itself(self, ended: Ended) -> None:
        self._recorder = None
        log.warning("the recording ended: %s", ended.reason)
        self._tell(ended)
        self.on_end(ended.reason)

    def _tell(self, ended: Ended) -> None:
        if ended.path and ended.samples:
            seconds, lost_s = (samples / self.segment.rate_hz for samples in (ended.samples, ended.lost_samples))
            lost = f", {lost_s:.2f} s of them lost and silent" if ended.lost_samples else ""
            log.info("recorded %.1f s%s: %s", seconds, lost, ended.path)


class _Recorder:
    """One recorder process, from its start to its end. path: the file, once it is there."""

    def __init__(self, segment: AudioSegment, request: Record, on_end: Callable[[Ended], None]) -> None:
        self.path: Path | None = None
        self._segment, self._request, self._on_end = segment, request, on_end
        self._told_to_stop = False
        self._refusal = ""
        self._ended: Ended | None = None
        self._began: asyncio.Future[Path] = asyncio.get_running_loop().create_future()
        self._child: Child[FromRecorder] | None = None
        self._life: asyncio.Task[Ended] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def begin(self, command: Sequence[str]) -> Path:
        """Start the process and return the file it has made. Raises RvcdError when it refuses, dies or stays silent."""
        # numpy would start a thread for each core, for nothing
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        try:
            child = self._child = await Child[FromRecorder].start(command, log, environment=environment)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RvcdError(f"the recorder cannot be started ({reason}): free some memory, or end some processes") from None
        child.hand_over(self._segment.fd)
        child.send(self._request)
        self._life = asyncio.create_task(self._live(child), name="recorder")
        try:
            return await asyncio.wait_for(asyncio.shield(self._began), START_LIMIT_S)
        except asyncio.TimeoutError:
            raise RvcdError(
                f"{self._request.folder}: the folder for recordings did not answer within {START_LIMIT_S:.0f} s: "
                "is its disk busy, or a server gone? Set record.folder to another one"
            ) from None

    async def stop(self, position: int) -> Ended:
        """After begin(): let it end at a device position and return how it went. Raises RvcdError when it stays silent."""
        assert self._life is not None and self._child is not None
        self._told_to_stop = True
        self._child.send(StopAt(position))
        try:
            return await asyncio.wait_for(asyncio.shield(self._life), STOP_LIMIT_S)
        except asyncio.TimeoutError:
            raise RvcdError(
                f"{self.path}: the disk did not take the end of the recording within {STOP_LIMIT_S:.0f} s: "
                "the file may lack it; is the disk busy, or a server gone?"
            ) from None

    async def give_up(self) -> None:
        """Part with a process that is of no use any more. Does not wait for one that cannot even be killed."""
        self._told_to_stop = True
        if not self._began.done():
            self._began.set_exception(RvcdError("the recording was ended before it began"))
            self._began.exception()  # somebody may have stopped waiting for it
        if self._child is not None:
            self._child.kill()
        if self._life is not None:
            await asyncio.wait((self._life,), timeout=KILLED_LIMIT_S)
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        elif self._child is not None:
            await self._child.discard()

    async def _live(self, child: Child[FromRecorder]) -> Ended:
        """Listen to the process until it has ended, and return how the recording went."""
        how = await child.watch(FromRecorder, self._handle)
        ended = self._ended or self._crash(how)
        if not self._began.done():
            self._began.set_exception(RvcdError(self._refusal or ended.reason))
        elif not self._told_to_stop:
            self._on_end(ended)
        return ended

    def _handle(self, message: FromRecorder) -> None:
        if isinstance(message, Began):
            if not self._began.done():
                self.path = Path(message.path)
                self._began.set_result(self.path)
        elif isinstance(message, Refused):
            self._refusal = message.error
        elif isinstance(message, LogLine):
            log.log(getattr(logging, message.level.upper(), logging.INFO), "%s", message.text)
        else:
            self._ended = message

    def _crash(self, how: str) -> Ended:
        if self.path is None:
            return Ended("", 0, 0, f"the recorder ended before it had begun ({how}); the log says more")
        return Ended(str(self.path), 0, 0, f"the recorder ended unexpectedly ({how}): {self.path} holds what it had written")
