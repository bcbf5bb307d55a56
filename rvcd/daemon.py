"""Composition root of the control process: settings in, a running rig out. Starts in order, stops reversed.

settings -> shared segment -> OSC server -> worker -> audio device -> systemd. No torch here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rvcd.assembly import choose_backend, device_factory, first_voice, geometry_of, request_for, scan_voices, worker_setup
from rvcd.audio.guard import DeviceGuard, DeviceState
from rvcd.audio.ring import AudioSegment
from rvcd.config import Settings
from rvcd.control.logs import fields
from rvcd.control.notify import Notifier
from rvcd.control.rig import NO_VOICE, VoiceStatus
from rvcd.control.server import OscServer, OscSettings
from rvcd.control.subscriptions import FeedbackTarget
from rvcd.errors import RvcdError
from rvcd.models.registry import VoiceRegistry
from rvcd.params import PARAMS, ParamStore
from rvcd.protocol import WORKER_STATS, State, Stats, to_dbfs
from rvcd.state import SavedState, load_state, save_state, state_path
from rvcd.supervisor import WorkerState, WorkerSupervisor

TICK_S = 0.1
SAVE_AFTER_S = 1.0
STOP_LIMIT_S = 5.0
FADE_OUT_S = 0.03
OVERLOAD_WINDOW_S = 10.0
OVERLOAD_SHARE = 0.1

log = logging.getLogger("rvcd.daemon")


@dataclass
class Switches:
    """What can be on or off. panic is latched until it is cleared."""

    bypass: bool = False
    mute: bool = False
    panic: bool = False


class Daemon:
    """The running rig (control.rig.Rig) and its life."""

    def __init__(self, settings: Settings, *, notifier: Notifier | None = None, state_file: Path | None = None) -> None:
        """Raises RvcdError for settings that cannot work. Nothing runs until run()."""
        self.settings = settings
        self.geometry = geometry_of(settings)
        self.notifier = notifier or Notifier.from_environment()
        self.state_file = state_file or state_path()
        saved, warning = load_state(self.state_file)
        if warning:
            log.warning("%s", warning)
        self.params = ParamStore({**settings.initial_params(), **saved.params})
        self.switches = Switches(mute=saved.mute, panic=saved.panic)
        self.registry = self._scan_voices()
        voice = first_voice(settings, self.registry, saved.voice)
        self.segment = AudioSegment.create(self.geometry.rate_hz)
        self.segment.set_latency_samples(self.geometry.latency_samples)
        self.supervisor = WorkerSupervisor(
            self.segment, worker_setup(settings, voice, saved.f0_method or settings.engine.f0_method), self._worker_changed
        )
        self.server = OscServer(
            OscSettings(
                settings.osc.host, settings.osc.port, settings.osc.allow,
                tuple(FeedbackTarget(f.host, f.port, f.hz, tuple(f.groups)) for f in settings.osc.feedback),
            ),
            self,
        )  # fmt: skip
        self.guard: DeviceGuard | None = None
        self.started_s = time.monotonic()
        self._stop = asyncio.Event()
        self._earlier_workers = dict.fromkeys(WORKER_STATS, 0.0)
        self._saved = self._to_save()
        self._dirty_since_s = 0.0
        self._announced = False
        self._callbacks_seen = 0
        self._look_at_load_s = 0.0
        self._seen_blocks = (0.0, 0.0)

    # ---- life

    async def run(self) -> None:
        """Run until a signal, stop(), or the end of a virtual device's input. Raises RvcdError if it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.rescan)
        try:
            self._apply_switches()
            self._publish_params()
            await self.server.start()
            self.supervisor.start()
            backend, why = await loop.run_in_executor(None, choose_backend, self.settings)
            log.info("audio device", extra=fields(backend=backend, why=why))
            self.guard = DeviceGuard(device_factory(self.settings, backend, self.segment), self.segment)
            self.guard.start()
            await self._tick_until_stopped(self.guard)
        finally:
            await self._shut_down()

    def stop(self) -> None:
        """End run()."""
        log.info("stopping")
        self._stop.set()

    def rescan(self) -> None:
        """Look for voices again (SIGHUP)."""
        self.notifier.reloading()
        self.registry = self._scan_voices()
        log.info("voices scanned again", extra=fields(voices=len(self.registry.entries)))
        self.notifier.ready(self._status_line())

    def _scan_voices(self) -> VoiceRegistry:
        """Look for voices, and say what was passed over and whether there are none at all."""
        registry = scan_voices(self.settings)
        for sentence in registry.skipped:
            log.warning("%s", sentence)
        if not registry.entries and not self.settings.voices.voice:
            log.warning(
                "there is no voice (*.pth) in %s: the output stays silent; put one there and start again, or set voices.voice",
                ", ".join(map(str, registry.folders)) or "any folder: voices.folders is empty",
            )
        return registry

    async def _tick_until_stopped(self, guard: DeviceGuard) -> None:
        watchdog_s = self.notifier.watchdog_interval_s or float("inf")
        next_watchdog_s = next_status_s = 0.0
        while not self._stop.is_set():
            guard.poll()
            for level, text in guard.drain_events():
                log.log(getattr(logging, level.upper()), "%s", text)
            self._announce()
            now = time.monotonic()
            if now >= next_status_s:
                next_status_s = now + 2.0
                if self._announced:
                    self.notifier.status(self._status_line())
                else:
                    self.notifier.extend_timeout(20)
            if now >= next_watchdog_s and self._audio_moves(guard):
                next_watchdog_s = now + watchdog_s
                self.notifier.watchdog()
            self._warn_if_overloaded(now)
            await self._save_if_due(now)
            if getattr(guard.device, "finished", False):
                log.info("the virtual device's input is played; stopping")
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_S)

    def _warn_if_overloaded(self, now: float) -> None:
        """Say so when many blocks came too late lately: what is late is silence, and somebody will wonder."""
        if now < self._look_at_load_s:
            return
        self._look_at_load_s = now + OVERLOAD_WINDOW_S
        worker = dict(zip(WORKER_STATS, self.segment.read_worker_stats(), strict=False))
        done, late = worker["blocks"] + worker["skipped_blocks"], worker["late_blocks"]
        new_done, new_late = done - self._seen_blocks[0], late - self._seen_blocks[1]
        self._seen_blocks = (done, late)
        if new_late > OVERLOAD_SHARE * max(1.0, new_done) and new_done > 0:
            log.warning(
                "overloaded: %d of the last %d blocks were too late and are silent; "
                "a block takes %.0f ms and may take %.0f ms; try %s",
                new_late, new_done, worker["total_ms"], self.geometry.ms(self.geometry.deadline_samples),
                "a GPU or a smaller voice" if self.settings.latency.preset == "safe" else "latency.preset = 'safe'",
            )  # fmt: skip

    def _announce(self) -> None:
        """Say once that everything runs, to systemd and to the person who started it."""
        if self._announced or self.supervisor.state is not WorkerState.RUNNING:
            return
        self._announced = True
        self.notifier.ready(self._status_line())
        host, port = self.server.address
        log.info("%s; watch it with: rvcctl --host %s --port %d", self._status_line(), host, port)

    def _status_line(self) -> str:
        voice = f", voice {self.voice().name}" if self.voice().name else ""
        return f"{self.state().value}{voice}, latency {self.latency_ms():.0f} ms"

    def _audio_moves(self, guard: DeviceGuard) -> bool:
        """True when the callback ran since the last look, or is known not to run (the guard is bringing the device back)."""
        callbacks = self.segment.counters().callbacks
        moved = callbacks != self._callbacks_seen
        self._callbacks_seen = callbacks
        return moved or guard.state is not DeviceState.RUNNING

    async def _shut_down(self) -> None:
        self.notifier.stopping()
        if self.guard is not None:
            # Fade out: a device that ends in the middle of a wave clicks.
            self.segment.set_mute(True)
            await asyncio.sleep(FADE_OUT_S)
            await asyncio.get_running_loop().run_in_executor(None, self.guard.stop, STOP_LIMIT_S)
            for level, text in self.guard.drain_events():
                log.log(getattr(logging, level.upper()), "%s", text)
        await self.supervisor.stop()
        await self.server.close()
        self._save()
        self.segment.close()

    # ---- what survives a restart

    def _to_save(self) -> SavedState:
        voice = self.supervisor.voice
        return SavedState(
            voice=voice.name if voice else "", f0_method=self.supervisor.setup.f0_method, params=dict(self.params.current),
            mute=self.switches.mute, panic=self.switches.panic,
        )  # fmt: skip

    async def _save_if_due(self, now: float) -> None:
        if self._to_save() == self._saved:
            self._dirty_since_s = 0.0
        elif not self._dirty_since_s:
            self._dirty_since_s = now
        elif now - self._dirty_since_s >= SAVE_AFTER_S:
            # fsync may take long; the loop must not.
            await asyncio.get_running_loop().run_in_executor(None, self._save)

    def _save(self) -> None:
        state = self._to_save()
        if state == self._saved:
            return
        self._saved, self._dirty_since_s = state, 0.0
        try:
            save_state(state, self.state_file)
        except RvcdError as error:
            log.warning("%s", error)

    # ---- the worker

    def _worker_changed(self) -> None:
        running = self.supervisor.state is WorkerState.RUNNING
        if not running:
            # The next worker counts from zero; what the user sees must not go back.
            stats = dict(zip(WORKER_STATS, self.segment.read_worker_stats(), strict=False))
            for name, value in stats.items():
                self._earlier_workers[name] += value
            self.segment.publish_worker_stats([0.0] * len(WORKER_STATS))
        self.segment.set_expect_output(running and self.supervisor.voice is not None)

    # ---- control.rig.Rig

    @property
    def version(self) -> str:
        try:
            return version("rvcd")
        except PackageNotFoundError:
            return "unknown"

    def state(self) -> State:
        if self.switches.panic:
            return State.PANIC
        if self.guard is None or self.guard.state is not DeviceState.RUNNING:
            return State.NO_DEVICE if self.guard and self.guard.state is not DeviceState.OPENING else State.STARTING
        if self.supervisor.state is WorkerState.STARTING:
            return State.STARTING
        if not self.supervisor.responsive:
            return State.RECOVERING
        if self.switches.mute:
            return State.MUTED
        if self.switches.bypass:
            return State.BYPASS
        return State.LIVE if self.supervisor.voice else State.NO_VOICE

    def get_param(self, name: str) -> float:
        return self.params.get(name)

    def set_param(self, name: str, value: float) -> float:
        applied = self.params.set(name, value)
        self._publish_params()
        return applied

    def get_switch(self, name: str) -> bool:
        return bool(getattr(self.switches, name))

    def set_switch(self, name: str, on: bool) -> bool:
        setattr(self.switches, name, bool(on))
        self._apply_switches()
        return bool(on)

    def panicked(self) -> bool:
        return self.switches.panic

    def panic(self) -> None:
        self.switches.panic = True
        self._flush()
        self._apply_switches()
        self.supervisor.flush()
        log.warning("panic: muted until /panic/clear")

    def clear_panic(self) -> None:
        if self.switches.panic:
            self.switches.panic = False
            self._flush()
            self._apply_switches()

    def voice(self) -> VoiceStatus:
        live = self.supervisor.voice
        if live is None:
            return NO_VOICE
        return VoiceStatus(live.name, next((e.slot for e in self.registry.entries if e.name == live.name), 0))

    def voices(self) -> Sequence[VoiceStatus]:
        return [VoiceStatus(entry.name, entry.slot) for entry in self.registry.entries]

    async def load_voice(self, name_or_slot: str | int) -> VoiceStatus:
        await self.supervisor.load_voice(request_for(self.registry.find(name_or_slot)))
        self._worker_changed()
        return self.voice()

    def f0_method(self) -> str:
        return self.supervisor.setup.f0_method

    async def set_f0_method(self, name: str) -> str:
        await self.supervisor.set_f0_method(name)
        return self.f0_method()

    def stats(self) -> Stats:
        counters, geometry = self.segment.counters(), self.geometry
        worker = dict(zip(WORKER_STATS, self.segment.read_worker_stats(), strict=False))
        in_peak, out_peak = self.segment.take_peaks()

        def total(name: str) -> int:
            return int(worker[name] + self._earlier_workers[name])

        device = self.guard.device if self.guard else None
        room = geometry.block_samples + geometry.deadline_samples
        return Stats(
            state=self.state().value,
            voice=self.voice().name,
            voice_slot=self.voice().slot,
            f0_method=self.f0_method(),
            bypass=int(self.switches.bypass),
            mute=int(self.switches.mute),
            panic=int(self.switches.panic),
            in_peak_dbfs=to_dbfs(in_peak),
            out_peak_dbfs=to_dbfs(out_peak),
            in_clips=counters.in_clips,
            out_clips=counters.out_clips,
            f0_hz=worker["f0_hz"] if worker["voiced"] else 0.0,
            latency_total_ms=self.latency_ms(),
            latency_device_in_ms=device.input_latency_ms if device else 0.0,
            latency_block_ms=geometry.ms(geometry.block_samples),
            latency_lookahead_ms=geometry.ms(geometry.lookahead_samples),
            latency_deadline_ms=geometry.ms(geometry.deadline_samples),
            latency_device_out_ms=device.output_latency_ms if device else 0.0,
            ring_fill=min(1.0, self.segment.output_fill_samples() / room),
            load=worker["load"],
            load_p95=worker["load_p95"],
            blocks=total("blocks"),
            late_blocks=total("late_blocks"),
            expired_samples=total("expired_samples"),
            failed_blocks=total("failed_blocks"),
            input_xruns=counters.input_xruns,
            output_xruns=counters.output_xruns,
            worker_restarts=self.supervisor.restarts,
            callback_gap_max_ms=counters.gap_max_ns / 1e6,
            encode_ms=worker["encode_ms"],
            pitch_ms=worker["pitch_ms"],
            synthesis_ms=worker["synthesis_ms"] + worker["retrieval_ms"],
            rate_hz=geometry.rate_hz,
            device=device.description if device else "",
            uptime_s=time.monotonic() - self.started_s,
        )

    # ---- inside

    def latency_ms(self) -> float:
        """The published latency: the stream's own plus what the device says of its buffers."""
        device = self.guard.device if self.guard else None
        buffers = device.input_latency_ms + device.output_latency_ms if device else 0.0
        return self.geometry.ms(self.geometry.latency_samples) + buffers

    def _publish_params(self) -> None:
        self.segment.publish_params([self.params.current[param.name] for param in PARAMS])

    def _apply_switches(self) -> None:
        self.segment.set_mute(self.switches.mute or self.switches.panic)
        self.segment.set_bypass(self.switches.bypass)

    def _flush(self) -> None:
        """Nothing said before now may still be heard."""
        self.segment.silence_until(self.segment.device_position() + self.geometry.latency_samples)


def run(settings: Settings) -> None:
    """Run the daemon until it is told to stop. Raises RvcdError if it cannot start."""

    async def main() -> None:
        await Daemon(settings).run()

    asyncio.run(main())
