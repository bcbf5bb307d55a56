"""Composition root of the control process: settings in, a running rig out. Starts in order, stops reversed.

settings -> shared segment -> OSC server -> worker -> audio device -> systemd. No torch here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time

from rvcd.assembly import choose_backend, device_factory
from rvcd.audio.guard import DeviceGuard, DeviceState
from rvcd.config import Settings
from rvcd.control.logs import fields
from rvcd.control.notify import Notifier
from rvcd.control.server import OscServer, OscSettings
from rvcd.control.subscriptions import FeedbackTarget
from rvcd.errors import RvcdError
from rvcd.live_rig import FADE_OUT_S, LiveRig
from rvcd.protocol import WORKER_STATS
from rvcd.state import save_state, state_path
from rvcd.supervisor import WorkerState
from rvcd.worker_process import WorkerProcess

TICK_S = 0.1
SAVE_AFTER_S = 1.0
STOP_LIMIT_S = 5.0
OVERLOAD_WINDOW_S = 10.0
OVERLOAD_SHARE = 0.1

log = logging.getLogger("rvcd.daemon")


class Daemon:
    """The life of a running rig."""

    def __init__(self, settings: Settings, worker: WorkerProcess | None = None) -> None:
        """worker: the first one, started already. Raises RvcdError for settings that cannot work. Nothing else runs yet."""
        self.settings = settings
        self.notifier = Notifier.from_environment()
        self.state_file = state_path()
        self.rig = LiveRig(settings, self.state_file, self._changed, worker)
        self.segment = self.rig.segment
        self.server = OscServer(
            OscSettings(
                settings.osc.host, settings.osc.port, settings.osc.allow,
                tuple(FeedbackTarget(f.host, f.port, f.hz, tuple(f.groups)) for f in settings.osc.feedback),
            ),
            self.rig,
        )  # fmt: skip
        self._stop = asyncio.Event()
        self._saved = self.rig.to_save()
        self._dirty_since_s = 0.0
        self._announced = False
        self._callbacks_seen = 0
        self._look_at_load_s = 0.0
        self._seen_blocks = (0.0, 0.0)
        self._rescanning: asyncio.Task[None] | None = None

    # ---- life

    async def run(self) -> None:
        """Run until a signal, stop(), or the end of a virtual device's input. Raises RvcdError if it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's wish is kept
            loop.add_signal_handler(signal.SIGHUP, self.hang_up, _has_terminal())
        try:
            await self.server.start()
            self.rig.start()
            backend, why = await loop.run_in_executor(None, choose_backend, self.settings)
            log.info("audio device", extra=fields(backend=backend, why=why))
            guard = self.rig.guard = DeviceGuard(device_factory(self.settings, backend, self.segment), self.segment)
            guard.start()
            await self._tick_until_stopped(guard)
        finally:
            await self._shut_down()

    def stop(self) -> None:
        """End run()."""
        log.info("stopping")
        self._stop.set()

    def hang_up(self, had_terminal: bool) -> None:
        """End run() when the terminal that it was started in is gone (SIGHUP); look for voices again when it was sent by hand."""
        if had_terminal and not _has_terminal():
            self.stop()
        else:
            self.rescan()

    def rescan(self) -> None:
        """Look for voices again."""

        async def work() -> None:
            self.notifier.reloading()
            await self.rig.rescan_voices()
            self.notifier.ready(self._status_line())

        self._rescanning = asyncio.get_running_loop().create_task(work(), name="rescan")

    def _changed(self) -> None:
        """Echo at once what the rig changed by itself."""
        self.server.changed()

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
                new_late, new_done, worker["total_ms"], self.rig.geometry.ms(self.rig.geometry.deadline_samples),
                "a GPU or a smaller voice" if self.rig.latency_preset() == "safe" else "latency.preset = 'safe'",
            )  # fmt: skip

    def _announce(self) -> None:
        """Say once that everything runs, to systemd and to the person who started it."""
        if self._announced or self.rig.supervisor.state is not WorkerState.RUNNING:
            return
        self._announced = True
        self.notifier.ready(self._status_line())
        host, port = self.server.address
        log.info("%s; watch it with: rvcctl --host %s --port %d", self._status_line(), host, port)

    def _status_line(self) -> str:
        voice = f", voice {self.rig.voice().name}" if self.rig.voice().name else ""
        return f"{self.rig.state().value}{voice}, latency {self.rig.latency_ms():.0f} ms"

    def _audio_moves(self, guard: DeviceGuard) -> bool:
        """True when the callback ran since the last look, or is known not to run (the guard is bringing the device back)."""
        callbacks = self.segment.counters().callbacks
        moved = callbacks != self._callbacks_seen
        self._callbacks_seen = callbacks
        return moved or guard.state is not DeviceState.RUNNING

    async def _shut_down(self) -> None:
        self.notifier.stopping()
        guard = self.rig.guard
        if guard is not None:
            # Fade out: a device that ends in the middle of a wave clicks.
            self.segment.set_mute(True)
            await asyncio.sleep(FADE_OUT_S)
            await asyncio.get_running_loop().run_in_executor(None, guard.stop, STOP_LIMIT_S)
            for level, text in guard.drain_events():
                log.log(getattr(logging, level.upper()), "%s", text)
        await self.rig.stop()
        await self.server.close()
        self._save()
        self.segment.close()

    # ---- what survives a restart

    async def _save_if_due(self, now: float) -> None:
        if self.rig.to_save() == self._saved:
            self._dirty_since_s = 0.0
        elif not self._dirty_since_s:
            self._dirty_since_s = now
        elif now - self._dirty_since_s >= SAVE_AFTER_S:
            # fsync may take long; the loop must not.
            await asyncio.get_running_loop().run_in_executor(None, self._save)

    def _save(self) -> None:
        state = self.rig.to_save()
        if state == self._saved:
            return
        self._saved, self._dirty_since_s = state, 0.0
        try:
            save_state(state, self.state_file)
        except RvcdError as error:
            log.warning("%s", error)


def _has_terminal() -> bool:
    """Say whether this process has a terminal that still is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def run(settings: Settings, worker: WorkerProcess) -> None:
    """Run the daemon until it is told to stop. Raises RvcdError if it cannot start."""
    await Daemon(settings, worker).run()
