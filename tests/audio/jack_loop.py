"""Two clients around rvcd in a JACK graph: one plays a sound into it over and over, one records what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest

from tests.waiting import HANG_S, eventually

T = TypeVar("T")


class JackLoop:
    """Plays `sound` in a loop and records, both counted in cycles of the JACK graph, in which every client runs once.

    A server that falls behind real time skips time, never cycles: so what is recorded in the cycle in which sample p was played
    is at p in the record, however busy the machine is. A cycle in which one of the two did not run is NaN in the record.
    One client for both would close a circle in the graph, which JACK cuts open with a period of delay of its own.
    """

    def __init__(self, server: str, sound: np.ndarray) -> None:
        jack = pytest.importorskip("jack", reason="JACK-Client is not installed: pip install 'rvcd[dev]'", exc_type=OSError)
        self.sound = sound.astype(np.float32)
        self.player = jack.Client("player", servername=server, no_start_server=True)
        self.recorder = jack.Client("recorder", servername=server, no_start_server=True)
        self.rate_hz, self.period = int(self.player.samplerate), int(self.player.blocksize)
        self._out = self.player.outports.register("out")
        self._in = self.recorder.inports.register("in")
        self._played = 0
        self._first_sample: dict[
            int, int
        ] = {}  # played in a cycle, by JACK's time of the cycle; read by the other client's thread
        self._recorded: list[tuple[int, np.ndarray]] = []
        self.player.set_process_callback(self._play)
        self.recorder.set_process_callback(self._record)

    def __enter__(self) -> JackLoop:
        self.player.activate()
        self.recorder.activate()
        into, out = self._port("rvcd", is_input=True), self._port("rvcd", is_input=False)
        for other in self.player.get_all_connections(into):
            self.player.disconnect(other, into)
        self.player.connect(self._out, into)
        self.recorder.connect(out, self._in)
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self.player, self.recorder):
            client.deactivate()
            client.close()

    def change_sound(self, sound: np.ndarray) -> None:
        """Play another sound, from its beginning, and forget what was recorded."""
        self._first_sample = {}
        self.sound, self._played = sound.astype(np.float32), 0
        self._recorded = []

    def played(self, start: int, count: int) -> np.ndarray:
        """Return samples start .. start + count of what is being played."""
        return self.sound[np.arange(start, start + count) % len(self.sound)]

    def recorded(self, seconds: float | None = None) -> tuple[int, np.ndarray]:
        """Return (first position, samples) of all that was recorded, or of its last seconds."""
        chunks = list(self._recorded)
        if not chunks:
            return 0, np.empty(0, np.float32)
        end = chunks[-1][0] + self.period
        start = chunks[0][0] if seconds is None else max(chunks[0][0], end - round(seconds * self.rate_hz))
        record = np.full(end - start, np.nan, np.float32)
        for at, data in chunks:
            if at >= start:
                record[at - start : at - start + len(data)] = data
        return start, record

    def chunks(self) -> list[tuple[int, np.ndarray]]:
        """Return (position, samples) of every recorded period."""
        return list(self._recorded)

    def is_delayed_by(self, delay: int, gain: float = 1.0) -> np.ndarray:
        """Return for each recorded period whether it is, to the sample, what was played `delay` samples before."""
        return np.array(
            [at >= delay and np.abs(data - gain * self.played(at - delay, len(data))).max() < 1e-6 for at, data in self.chunks()],
            bool,
        )

    def until(self, condition: Callable[[], T], what: str = "", *, limit_s: float = HANG_S) -> T:
        """Let it run until condition() is true."""
        return eventually(condition, what, every_s=0.25, limit_s=limit_s)

    def _port(self, client: str, *, is_input: bool) -> Any:
        ports = eventually(lambda: [port for port in self.player.get_ports(client, is_audio=True) if port.is_input is is_input])
        return ports[0]

    def _play(self, count: int) -> None:
        self._out.get_array()[:] = self.played(self._played, count)
        self._first_sample[self.player.last_frame_time] = self._played
        self._played += count

    def _record(self, count: int) -> None:
        played = self._first_sample.pop(self.recorder.last_frame_time, None)
        if played is not None:
            self._recorded.append((played, self._in.get_array().copy()))
