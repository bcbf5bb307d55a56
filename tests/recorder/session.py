"""A device, a worker and a recorder, driven by hand: what the tests of recordings share."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rvcd.ipc.channel import READ_BYTES, Channel, Frames, frame
from rvcd.ipc.messages import FromRecorder, Record, StopAt, ToRecorder
from rvcd.ipc.segment import AudioSegment
from rvcd.recorder.main import Recorder
from tests.audio.conftest import HandDriven

RATE_HZ = 48000
ROOT = Path(__file__).parents[2]
VOICE = np.random.default_rng(1).uniform(-0.8, 0.8, 20 * RATE_HZ).astype(np.float32)
CONVERTED = np.random.default_rng(2).uniform(-0.8, 0.8, 20 * RATE_HZ).astype(np.float32)
SETTLED = 480  # samples of the longest fade
HOUR = 3600 * RATE_HZ
PLENTY = 10**15


def in_24_bits(samples: np.ndarray) -> np.ndarray:
    """What a 24-bit file gives back."""
    return (np.clip(np.rint(samples.astype(np.float64) * 2**23), -(2**23), 2**23 - 1) / 2**23).astype(np.float32)


def delayed(sound: np.ndarray, latency: int) -> np.ndarray:
    return np.concatenate([np.zeros(latency, np.float32), sound])[: len(sound)]


class DrivenSession:
    """A device driven by hand and a worker that turns VOICE into CONVERTED: `given` is what the device got, all of it."""

    def __init__(self, segment: AudioSegment) -> None:
        self.segment, self.device = segment, HandDriven(segment)
        self.given = np.empty(0, np.float32)
        self.works = True

    def play(self, samples: int, period: int = 480) -> None:
        end = len(self.given) + samples
        played = [self.given]
        for at in range(len(self.given), end, period):
            to = min(end, at + period)
            if self.works:
                self.segment.write_output(at, CONVERTED[at:to])
            played.append(self.device.process(VOICE[at:to]))
        self.given = np.concatenate(played)

    def heard(self, latency: int | None = None) -> np.ndarray:
        """The input as late as the output: the dry channel."""
        return delayed(VOICE[: len(self.given)], self.segment.latency_samples() if latency is None else latency)


@contextlib.contextmanager
def new_session() -> Iterator[DrivenSession]:
    with AudioSegment.create(RATE_HZ) as segment:
        session = DrivenSession(segment)
        yield session
        session.device.close()


def request_for(folder: Path, **changes: Any) -> Record:
    values = {"folder": str(folder), "name": "take", "voice": "Anna", "start": 0, "min_free_bytes": 10**9, "max_samples": HOUR}
    return Record(**{**values, **changes})


def record(
    segment: AudioSegment, request: Record, *, stop: int | None, free_bytes: Callable[[Path], int] = lambda folder: PLENTY
) -> list[FromRecorder]:
    """Run a whole recording here and now; stop None: the control process goes away. Returns what the recorder said."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        if stop is None:
            ours.shutdown(socket.SHUT_WR)
        else:
            ours.sendall(frame(StopAt(stop)))
        recorder = Recorder(segment, Channel(theirs, ToRecorder), request, free_bytes)
        file = recorder.begin()
        if file is not None:
            recorder.record(file)
        return said_to(ours)


def said_to(ours: socket.socket) -> list[FromRecorder]:
    """Return all that has been said so far."""
    frames, said = Frames[FromRecorder](FromRecorder), []
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while data := ours.recv(READ_BYTES):
            frames.feed(data)
    while (message := frames.take()) is not None:
        said.append(message)
    return said


def contents(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Dry and wet."""
    frames, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == RATE_HZ and frames.shape[1] == 2
    return frames[:, 0], frames[:, 1]
