"""A client without a socket: the test fills its view, and reads what the screen sent."""

from __future__ import annotations

import asyncio
import dataclasses

from rvcctl.client import Listener, tell
from rvcctl.view import DaemonView
from rvcd import protocol
from rvcd.osc.codec import OscMessage


class FrozenClock:
    """Seconds that only move when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class FakeClient:
    """Implements rvcctl.client.ClientLike. `sent` holds (address, args) in order."""

    def __init__(self, clock: FrozenClock) -> None:
        self.view = DaemonView("127.0.0.1:9720")
        self.sent: list[tuple[str, tuple[str | int | float, ...]]] = []
        self._clock = clock
        self._listener: Listener | None = None

    def send(self, address: str, *args: str | int | float) -> None:
        """Keep what would go out."""
        self.sent.append((address, args))

    async def run(self, listener: Listener) -> None:
        """Connect the listener and wait for the end."""
        self._listener = listener
        await asyncio.Event().wait()

    def deliver(self, address: str, *args: str | int | float) -> None:
        """Let one message arrive."""
        outcome = self.view.apply(OscMessage(protocol.PREFIX + address, args), self._clock())
        assert self._listener is not None
        self._listener.on_view_changed()
        tell(self._listener, outcome)

    def deliver_list(self, address: str, *names: str) -> None:
        """Let a list of voices or presets arrive, numbered from 1."""
        for number, name in enumerate(names, start=1):
            self.deliver(address, number, name)
        self.deliver(f"{address}/end", len(names))

    def deliver_stats(self, **fields: str | int | float) -> None:
        """Let a stats message arrive that differs from a healthy one in these fields."""
        self.deliver("/stats", *dataclasses.astuple(dataclasses.replace(HEALTHY, **fields)))  # type: ignore[arg-type]


HEALTHY = protocol.Stats(
    state="live", voice="demo", voice_slot=1, f0_method="swift", in_peak_dbfs=-18.0, out_peak_dbfs=-20.0, f0_hz=220.0,
    latency_total_ms=190.7, latency_device_in_ms=5.3, latency_block_ms=100.0, latency_lookahead_ms=40.0,
    latency_deadline_ms=40.0, latency_device_out_ms=5.4, ring_fill=0.5, load=0.33, load_p95=0.36, blocks=1000,
    rate_hz=48000, device="virtual loop", uptime_s=61.0, encode_ms=18.0, pitch_ms=6.0, synthesis_ms=9.0,
    talk=1, talk_mode="push-to-talk", speakers=3, latency_preset="balanced", preset="Deep", scheduling="FIFO 60",
)  # fmt: skip
