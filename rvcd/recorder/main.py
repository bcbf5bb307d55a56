"""The recorder process: with its channel's number as argument, started by daemon.recording.Recording, one for a recording.

It reads input and output from the shared segment's rings, behind the audio path's back, and writes a two-channel FLAC file.
Disks stall and fill up: here that costs nobody else anything, and the rings remember the last 5 s meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rvcd.audio.growing_flac import GrowingFlac
from rvcd.errors import RvcdError
from rvcd.ipc.channel import Channel
from rvcd.ipc.messages import Began, Ended, LogLine, Record, Refused, StopAt, ToRecorder
from rvcd.ipc.segment import AudioSegment, ReadStatus

CHANNELS = ("dry", "wet")
"""Of every recording: the input, as late as the output is, and the output. So both line up to the sample."""
CHUNK_S = 0.25
SHORTEST_WAIT_S = 0.02
LOOK_AT_DISK_S = 1.0
NICENESS = 10
HEADROOM = 4
"""A recorder that was overtaken goes on this part of a ring (a quarter) after the oldest sample, not to be overtaken again."""
MAX_SAME_NAMES = 1000


def free_bytes(folder: Path) -> int:
    """Return how much this user may still write on the folder's disk. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class Recorder:
    """One recording: begin() makes the file, record() fills it."""

    def __init__(
        self,
        segment: AudioSegment,
        channel: Channel[Any],
        request: Record,
        free_bytes: Callable[[Path], int] = free_bytes,
    ) -> None:
        self.segment, self.channel, self.request = segment, channel, request
        self.folder = Path(request.folder)
        self.position = request.start
        self.lost_samples = 0
        self._free_bytes = free_bytes
        self._rate_hz = segment.rate_hz
        self._chunk = int(CHUNK_S * self._rate_hz)
        self._latency = segment.latency_samples()
        self._last = request.start + request.max_samples
        self._stop_at: int | None = None
        self._look_at_disk = request.start
        self._dry, self._wet = np.empty(self._chunk, np.float32), np.empty(self._chunk, np.float32)
        self._frames = np.empty((self._chunk, len(CHANNELS)), np.float32)

    def begin(self) -> GrowingFlac | None:
        """Make the folder and the file, and say so; None when that cannot be, which is said too."""
        try:
            self._make_folder()
            file = self._create()
        except RvcdError as error:
            self._send(Refused(str(error)))
            return None
        self._send(Began(str(file.path)))
        return file

    def record(self, file: GrowingFlac) -> None:
        """Record until told to stop, until a limit, or until the control process is gone; say how it went."""
        try:
            reason = self._follow(file)
        except RvcdError as error:
            reason = str(error)
        self._send(self._finish(file, reason))

    # ---- the file

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "there is a file of that name" if isinstance(error, FileExistsError) else (error.strerror or "").lower()
            raise RvcdError(
                f"{self.folder}: the folder for recordings cannot be made ({reason}): set record.folder to one you may write to"
            ) from None
        if reason := self._too_full():
            raise RvcdError(reason)

    def _create(self) -> GrowingFlac:
        ms = 1000 * self._latency / self._rate_hz
        comment = f"rvcd: channel 1 is dry, the input {ms:.1f} ms later; channel 2 is wet, the output"
        for number in range(1, MAX_SAME_NAMES):
            suffix = f"-{number}" if number > 1 else ""
            path = self.folder / f"{self.request.name}{suffix}.flac"
            with contextlib.suppress(FileExistsError):
                return GrowingFlac(path, self._rate_hz, len(CHANNELS), title=self.request.voice, comment=comment)
        raise RvcdError(f"{path}: exists, and so do all names before it: set record.folder to another folder")

    def _too_full(self) -> str:
        """Return a sentence when the disk has less free space than must stay free, else ""."""
        try:
            free = self._free_bytes(self.folder)
        except OSError as error:
            return f"{self.folder}: the folder for recordings is out of reach ({(error.strerror or str(error)).lower()})"
        if free >= self.request.min_free_bytes:
            return ""
        return (
            f"{self.folder}: {free // 10**6} MB are free where recordings go and {self.request.min_free_bytes // 10**6} MB "
            "must stay free (record.min_free_mb): delete something, or set record.folder to another disk"
        )

    def _finish(self, file: GrowingFlac, reason: str) -> Ended:
        if file.samples == 0:
            file.discard()
            return Ended("", 0, 0, reason or "nothing was recorded: no sample came from the audio device; no file was kept")
        try:
            file.close()
        except RvcdError as error:
            reason = reason or str(error)
        return Ended(str(file.path), file.samples, self.lost_samples, reason)

    # ---- following the device

    def _follow(self, file: GrowingFlac) -> str:
        """Write what the device did, chunk by chunk. Returns why it ended by itself, "" when told to stop."""
        while True:
            if self._stop_at is None:
                self._listen()
            end = min(self._last, self.segment.device_position() if self._stop_at is None else self._stop_at)
            done = self._stop_at is not None or end == self._last
            while self.position < end and (done or end - self.position >= self._chunk):
                if reason := self._look():
                    return reason
                self._write(file, min(self._chunk, end - self.position), end)
            if self._stop_at is not None:
                return ""
            if self.position >= self._last:
                minutes = self.request.max_samples / self._rate_hz / 60
                return f"the recording is {minutes:.0f} minutes long, the longest that record.max_minutes allows"

    def _listen(self) -> None:
        """Wait for the next chunk, or for the word to stop."""
        there = self.segment.device_position() - self.position
        wait_s = min(CHUNK_S, max(SHORTEST_WAIT_S, (self._chunk - there) / self._rate_hz))
        if not self.channel.comes_within(wait_s):
            return
        message, now = self.channel.receive(), self.segment.device_position()
        self._stop_at = min(now, message.position) if isinstance(message, StopAt) else now

    def _look(self) -> str:
        """Look at the disk once in a second of sound."""
        if self.position < self._look_at_disk:
            return ""
        self._look_at_disk = self.position + int(LOOK_AT_DISK_S * self._rate_hz)
        return self._too_full()

    def _write(self, file: GrowingFlac, count: int, end: int) -> None:
        """Append the next count samples; if they were overwritten already, silence up to where there is sound again."""
        self._follow_latency()
        frames = self._frames[:count]
        if self._read(self._dry[:count], self._wet[:count]):
            frames[:, 0], frames[:, 1] = self._dry[:count], self._wet[:count]
            file.write(frames)
            self.position += count
            return
        capacity = self.segment.in_capacity_samples
        oldest = self.segment.device_position() - capacity + self._latency + capacity // HEADROOM
        lost = min(max(count, oldest - self.position), end - self.position)
        self._log("warning", f"{lost / self._rate_hz:.2f} s of the recording are silence: the disk or the processor was too busy")
        self.lost_samples += lost
        self._frames.fill(0)
        while lost > 0:
            part = min(self._chunk, lost)
            file.write(self._frames[:part])
            self.position, lost = self.position + part, lost - part

    def _read(self, dry: np.ndarray, wet: np.ndarray) -> bool:
        """Read the samples at self.position: the input so much earlier as the output is late. False: overwritten."""
        unborn = min(len(dry), max(0, self._latency - self.position))
        dry[:unborn] = 0  # before the device's first sample
        reads = [self.segment.read_tap(self.position, wet)]
        if unborn < len(dry):
            reads.append(self.segment.read_input(self.position - self._latency + unborn, dry[unborn:]))
        return all(status is ReadStatus.OK for status in reads)

    def _follow_latency(self) -> None:
        """Go on with another latency in the same file.

        The device is silent while its latency changes, so what the jump of the dry channel costs is in nobody's way.
        """
        latency = self.segment.latency_samples()
        if latency == self._latency:
            return
        old_ms, new_ms = (1000 * samples / self._rate_hz for samples in (self._latency, latency))
        at_s = (self.position - self.request.start) / self._rate_hz
        self._latency = latency
        self._log("info", f"the latency went from {old_ms:.0f} to {new_ms:.0f} ms; the dry channel jumps as far at {at_s:.2f} s")

    # ---- talking

    def _send(self, message: Began | Refused | LogLine | Ended) -> None:
        with contextlib.suppress(OSError):  # the control process is gone: the file is finished all the same
            self.channel.send(message)

    def _log(self, level: str, text: str) -> None:
        self._send(LogLine(level, text))


def main(free_bytes: Callable[[Path], int] = free_bytes) -> None:
    # Ctrl-C and systemd reach the whole group; the control process says when to stop, or ends, which says it too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel: Channel[Any] = Channel(socket.socket(fileno=int(sys.argv[1])), ToRecorder)
    descriptor = channel.receive_descriptor()
    request = channel.receive() if descriptor is not None else None
    if descriptor is None or not isinstance(request, Record):
        return
    with AudioSegment.attach(descriptor) as segment:
        recorder = Recorder(segment, channel, request, free_bytes)
        file = recorder.begin()
        if file is not None:
            os.nice(NICENESS)  # only now: until here somebody was waiting
            recorder.record(file)
