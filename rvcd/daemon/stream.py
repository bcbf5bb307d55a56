"""The stream: what is wanted of it, the worker that runs it, and what the audio path has to know when the two have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rvcd.config.logs import fields
from rvcd.daemon.switches import Switches
from rvcd.daemon.wanted import SUPERSEDED, Owner, Request
from rvcd.daemon.worker import WORKER_COMMAND, WorkerChild, WorkerState, WorkerSupervisor
from rvcd.errors import RvcdError
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import Choice, ModelSetup, VoiceFiles, Wanted
from rvcd.ipc.segment import AudioSegment
from rvcd.osc.session import SupersededError

FADE_OUT_S = 0.03
"""The output is silent so long after it was told to be (5 ms), with room for a device's period."""
STOPPING = "rvcd is stopping"

log = logging.getLogger("rvcd.stream")


class Stream:
    """Keeps the worker and the audio path at what is wanted.

    geometry: the sizes of what runs, or ran last. on_change: called when something may have changed by itself.
    on_voice: called when another voice has gone live, before it is heard. on_choice: called when a latency preset was chosen.
    """

    def __init__(
        self,
        segment: AudioSegment,
        models: ModelSetup,
        geometries: Mapping[str, StreamGeometry],
        wanted: Wanted,
        switches: Switches,
        on_change: Callable[[], None] = lambda: None,
        on_voice: Callable[[VoiceFiles], None] = lambda voice: None,
        on_choice: Callable[[Choice], None] = lambda choice: None,
        *,
        to_choose: tuple[str, ...] = (),
        command: Sequence[str] = WORKER_COMMAND,
        first: WorkerChild | None = None,
    ) -> None:
        """geometries: the sizes for each latency preset. first: a worker that has been started already.

        to_choose: latency presets of which the worker chooses one by measurement before anything is heard; (): as wanted.
        """
        self._segment, self._geometries, self._switches = segment, geometries, switches
        self._on_change, self._on_voice, self._on_choice = on_change, on_voice, on_choice
        self.owner, self._told_choice = Owner(wanted, to_choose=to_choose), False
        self.worker = WorkerSupervisor(segment, models, geometries, self.owner, self._follow, command, first)
        self._latency = wanted.latency
        self._cutting = ""
        self._live = wanted.voice
        segment.set_latency_samples(self.geometry.latency_samples)

    def start(self) -> None:
        """Begin to run the worker."""
        self.worker.start()

    async def stop(self) -> None:
        """End the worker, and whoever waits for something."""
        await self.worker.stop()
        self.owner.close(STOPPING)

    @property
    def geometry(self) -> StreamGeometry:
        return self._geometries[self._latency]

    @property
    def latency(self) -> str:
        """The latency preset that runs."""
        return self._latency

    @property
    def voice(self) -> VoiceFiles | None:
        """The voice that is live."""
        applied = self.owner.applied
        return applied.voice if applied is not None else None

    async def want(self, field: str, value: Any, **others: Any) -> None:
        """Want another value of a field (messages.FIELDS), and return once it runs. others: what changes along with it.

        Raises RvcdError when it cannot be, or something newer is wanted.
        """
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def end(request: Request) -> None:
            if not ended.done():
                ended.set_result(request.error or "")

        self.owner.request(end, field, value, **others)
        self.worker.tell_wanted()
        self._on_change()
        error = await ended
        if error:
            raise SupersededError if error == SUPERSEDED else RvcdError(error)

    def flush(self) -> None:
        """Nothing said before now may still be heard."""
        self._segment.silence_until(self._segment.device_position() + self.geometry.latency_samples)

    # ---- inside

    def _follow(self) -> None:
        """After each report and each change of the worker's state: what does the audio path have to know?"""
        applied = self.owner.applied
        if applied is not None:
            if applied.voice is not None and applied.voice != self._live:
                self._live = applied.voice
                self._on_voice(applied.voice)
            if applied.latency != self._latency:
                self._take_latency(applied.latency)
            if self.owner.choice is not None and not self._told_choice:
                self._told_choice = True
                self._on_choice(self.owner.choice)
        # Missing output counts as lost once there has been some, whatever the worker is doing now.
        self._segment.set_expect_output(self._live is not None and self.worker.state is not WorkerState.STARTING)
        self._follow_latency_change()
        self._on_change()

    def _take_latency(self, name: str) -> None:
        self._latency = name
        geometry = self.geometry
        self._segment.set_latency_samples(geometry.latency_samples)
        self.flush()
        log.info("latency changed", extra=fields(preset=name, total_ms=round(geometry.ms(geometry.latency_samples), 1)))

    def _follow_latency_change(self) -> None:
        """While two latencies meet, the output is silent, so that the cut is heard as a pause and not as a click."""
        prepared = self.owner.prepared
        if self._cutting != prepared:
            self._cutting = prepared
            if prepared:
                asyncio.get_running_loop().call_later(FADE_OUT_S, self._cut, prepared)
        if self._switches.changing_latency != bool(prepared):
            self._switches.changing_latency = bool(prepared)
            self._switches.apply()

    def _cut(self, latency: str) -> None:
        if self._cutting == latency:
            self.worker.cut(latency)
