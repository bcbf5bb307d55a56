"""The main job on a real audio server: JACK in, `rvcd run`, JACK out, OSC from another process.

A loaded machine drops periods, in rvcd, in the server and in these tests' own clients. So every test goes on until enough was
heard, and judges only what was.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from rvcd.engine.pitch_methods.yin import YinPitch
from tests.audio.conftest import RATE_HZ, JackServer
from tests.rig import DaemonProcess, running

jack = pytest.importorskip("jack", reason="JACK-Client is not installed: make test installs it", exc_type=OSError)

CONFIG = '[audio]\nbackend = "portaudio"\nhost_api = "JACK"\n[latency]\npreset = "safe"\n'
DEMO = Path(__file__).parents[2] / "rvcd" / "data" / "demo_speech.flac"
LIMIT_S = 60.0


class Loop:
    """Two JACK clients around rvcd: one plays an array into it again and again, one records rvcd's output.

    Both are placed by JACK's own clock. One client for both would close a circle in JACK's graph, which JACK cuts open with a
    period of delay of its own.
    """

    def __init__(self, server: str) -> None:
        self.player = jack.Client("player", servername=server, no_start_server=True)
        self.recorder = jack.Client("recorder", servername=server, no_start_server=True)
        self.period = int(self.player.blocksize)
        self.sent = self.player.outports.register("out")
        self.heard = self.recorder.inports.register("in")
        self.source = np.zeros(1, np.float32)
        self.began: int | None = None
        self.recorded: list[tuple[int, np.ndarray]] = []
        """(samples since the source began, what was heard)."""
        self._counted, self._echoes = 0, 0
        self.player.set_process_callback(self._play)
        self.recorder.set_process_callback(self._record)

    def _play(self, frames: int) -> None:
        if self.began is None:
            self.began = self.player.last_frame_time
        at = self.player.last_frame_time - self.began
        self.sent.get_array()[:] = self.source.take(np.arange(at, at + frames), mode="wrap")

    def _record(self, frames: int) -> None:
        if self.began is not None and self.recorder.last_frame_time >= self.began:
            self.recorded.append((self.recorder.last_frame_time - self.began, self.heard.get_array().copy()))

    def start(self, source: np.ndarray) -> None:
        """Begin to play source, and to record."""
        self.source = source.astype(np.float32)
        self.player.activate()
        self.recorder.activate()
        into = next(p for p in self.player.get_ports("rvcd") if p.is_input)
        for other in self.player.get_all_connections(into):
            self.player.disconnect(other, into)
        self.player.connect(self.sent, into)
        self.recorder.connect(next(p for p in self.recorder.get_ports("rvcd") if p.is_output), self.heard)

    def close(self) -> None:
        for client in (self.player, self.recorder):
            client.deactivate()
            client.close()

    @property
    def position(self) -> int:
        """Samples since the source began."""
        recorded = self.recorded
        return recorded[-1][0] + len(recorded[-1][1]) if recorded else 0

    def whole(self, start: int = 0) -> np.ndarray:
        """Return what was heard from a position on; zeros where the recorder was dropped."""
        out = np.zeros(max(0, self.position - start), np.float32)
        for at, data in reversed(self.recorded.copy()):
            if at < start:
                break
            if at <= start + len(out) - len(data):
                out[at - start : at - start + len(data)] = data
        return out

    @property
    def samples_of_voice(self) -> int:
        """How many samples were heard that are not exactly silent."""
        return sum(int(np.count_nonzero(data)) for _, data in self.recorded.copy())

    def echoes(self, lag: int, first: int = 0, last: int | None = None) -> int:
        """Return how many samples heard are the source's `lag` samples ago, in those of the recorded periods."""
        return sum(
            int((np.abs(data - self.source.take(np.arange(at - lag, at - lag + len(data)), mode="wrap")) < 1e-6).sum())
            for at, data in self.recorded[first:last]
        )

    def echoes_so_far(self, lag: int) -> int:
        """Return the same of all periods, looking at each once: these tests share the lock with the clients' callbacks."""
        counted = len(self.recorded)
        self._echoes += self.echoes(lag, self._counted, counted)
        self._counted = counted
        return self._echoes


@contextlib.contextmanager
def looped(server: JackServer, folder: Path) -> Iterator[tuple[DaemonProcess, Loop]]:
    with running(folder, CONFIG, {"JACK_DEFAULT_SERVER": server.name}) as daemon:
        daemon.osc.until(lambda s: s.state == "live")
        loop = Loop(server.name)
        try:
            yield daemon, loop
        finally:
            loop.close()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: not within {LIMIT_S:g} s"
        time.sleep(0.2)


def test_the_measured_delay_is_the_published_latency_and_the_samples_are_untouched(jack_server, tmp_path):
    with looped(jack_server, tmp_path) as (daemon, loop):
        daemon.osc.ask("/rvc/bypass", 1)
        published = round(daemon.osc.stats().latency_total_ms * RATE_HZ / 1000)
        loop.start(0.5 * np.random.default_rng(0).uniform(-1, 1, 4 * RATE_HZ))
        until(lambda: loop.echoes_so_far(published) > 2 * RATE_HZ, "two seconds of the input, exactly the published latency late")
        assert daemon.osc.stats().worker_restarts == 0
    few = 0.01 * sum(len(data) for _, data in loop.recorded)
    for lag in (*range(published - 3, published), *range(published + 1, published + 4), published - loop.period):
        assert loop.echoes(lag) < few
    assert loop.echoes(published + loop.period) < few


def test_the_voice_follows_pitch_over_osc_while_garbage_arrives(jack_server, tmp_path):
    hum_hz = 140
    t = np.arange(RATE_HZ) / RATE_HZ  # a whole number of its periods
    hum = 0.3 * sum(np.sin(2 * np.pi * hum_hz * k * t) / k for k in range(1, 12))
    chance = random.Random(3)
    with looped(jack_server, tmp_path) as (daemon, loop):
        loop.start(hum)
        for semitones in (12, 0, 12, -12, 0):
            for _ in range(200):
                daemon.osc.socket.send(chance.randbytes(chance.randrange(1, 60)))
            asked_at = loop.position
            daemon.osc.send("/rvc/pitch", float(semitones))
            expected_hz = hum_hz * 2 ** (semitones / 12)
            until(
                lambda asked_at=asked_at, expected_hz=expected_hz: hums_at(loop, asked_at, expected_hz),
                f"a hum of {expected_hz} Hz",
            )
        stats = daemon.osc.stats()
    assert stats.worker_restarts == 0 and stats.failed_blocks == 0


def hums_at(loop: Loop, since: int, expected_hz: float) -> bool:
    """Return whether the last half second since then has at least 0.2 s of a voice, and most of that at a pitch."""
    heard = loop.whole(max(since, loop.position - RATE_HZ // 2))
    if len(heard) < RATE_HZ // 5:
        return False
    f0_hz = YinPitch().estimate(soxr.resample(heard, RATE_HZ, 16000)).f0_hz
    voiced = f0_hz[f0_hz > 0]
    near = np.abs(1200 * np.log2(np.maximum(voiced, 1) / expected_hz)) < 100
    return len(voiced) >= 20 and float(near.mean()) > 0.5


def test_speech_comes_out_as_voice_aligned_with_the_input(jack_server, tmp_path):
    speech, speech_rate_hz = soundfile.read(DEMO, dtype="float32")
    source = soxr.resample(speech[: 5 * speech_rate_hz], speech_rate_hz, RATE_HZ)
    with looped(jack_server, tmp_path) as (daemon, loop):
        daemon.osc.ask("/rvc/rms_mix", 0.0)
        loop.start(source)
        until(lambda: loop.samples_of_voice > 5 * RATE_HZ, "five seconds of voice")
        published_ms = daemon.osc.stats().latency_total_ms
        heard = loop.whole()
    played = source.take(np.arange(len(heard)), mode="wrap")
    told, came, there = loudness_per_ms(played), loudness_per_ms(heard), loudness_per_ms((heard != 0).astype(np.float32))
    lags_ms = range(100, 900)
    likeness = [alike(told[: len(told) - lag], came[lag:], there[lag:] > 0.999) for lag in lags_ms]
    best_ms = lags_ms[int(np.argmax(likeness))]
    assert max(likeness) > 0.6
    # A voice's loudness has a course of its own: 3 ms off were seen. The first test is exact.
    assert abs(best_ms - published_ms) <= 10, (best_ms, published_ms)
    assert not np.array_equal(heard, played)


def alike(told: np.ndarray, came: np.ndarray, delivered: np.ndarray) -> float:
    """Return how much two courses of loudness have in common where something was delivered, -1..1."""
    return float(np.corrcoef(told[delivered], came[delivered])[0, 1])


def loudness_per_ms(samples: np.ndarray) -> np.ndarray:
    """Return the RMS of 20 ms around every millisecond, at 48 kHz."""
    window = np.hanning(960) / np.hanning(960).sum()
    return np.sqrt(np.maximum(np.convolve(samples**2, window, "same")[::48], 0))
