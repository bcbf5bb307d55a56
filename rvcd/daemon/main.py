"""Composition root of the control process: settings in, a running session out. Starts in order, stops reversed.

settings -> shared segment -> OSC server -> worker -> audio device -> systemd. No torch here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from pathlib import Path

from rvcd.audio.configured import choose_backend, device_factory, microphone_keeper
from rvcd.audio.device_supervisor import DeviceState, DeviceSupervisor
from rvcd.audio.jack import remembered
from rvcd.audio.microphone_keeper import MicrophoneKeeper
from rvcd.config.folders import config_files, state_folder
from rvcd.config.logs import fields
from rvcd.config.settings import ANY_PORT, AUTO, DEFAULT_CONFIG, Settings
from rvcd.daemon import state_lock
from rvcd.daemon.own_port import remember_port, remembered_port
from rvcd.daemon.session import LiveSession
from rvcd.daemon.state import SavedState, save_state, state_path
from rvcd.daemon.state_saver import StateSaver
from rvcd.daemon.stream import FADE_OUT_S
from rvcd.daemon.systemd import Notifier
from rvcd.daemon.worker import WorkerChild, WorkerState
from rvcd.errors import RvcdError
from rvcd.geometry import FRAMES_PER_SECOND, MAX_RATE_HZ, MIN_RATE_HZ
from rvcd.instance import client_name
from rvcd.osc.server import OscServer, OscSettings
from rvcd.osc.subscriptions import FeedbackTarget
from rvcd.running import Announcement
from rvcd.voices.encoders import has_encoders
from rvcd.voices.import_scratch import clear_leftovers

TICK_S = 0.1
EXTEND_S, START_MORE_S = 2.0, 20
"""While starting, systemd is asked so often for so much more time."""
STOP_LIMIT_S = 5.0
CONNECTIONS_NAME = "connections.json"
SAVE_LIMIT_S = 3.0

log = logging.getLogger("rvcd.daemon")


class Daemon:
    """The life of a running session."""

    def __init__(self, settings: Settings, worker: WorkerChild | None = None, announcement: Announcement | None = None) -> None:
        """worker: the first one, started already. announcement: told where the daemon listens.

        Raises RvcdError for settings that cannot work. Nothing else runs yet.
        """
        self.settings, self._announcement = settings, announcement
        self.notifier = Notifier.from_environment()
        state_file = state_path(settings.instance)
        self._last_port = remembered_port(state_file.parent) if settings.osc.port == ANY_PORT else ANY_PORT
        self._connections_file = state_file.with_name(CONNECTIONS_NAME)
        self.session = LiveSession(settings, state_file, self._changed, worker)
        self.saver: StateSaver[SavedState] = StateSaver(
            self.session.disk, str(state_file), lambda state: save_state(state, state_file), self.session.to_save()
        )
        self.server = OscServer(
            OscSettings(
                settings.osc.host, settings.osc.port or self._last_port, settings.osc.allow,
                tuple(FeedbackTarget(f.host, f.port, f.hz, tuple(f.groups)) for f in settings.osc.feedback),
                or_another=settings.osc.port == ANY_PORT,
            ),
            self.session,
        )  # fmt: skip
        self._stop = asyncio.Event()
        self._announced, self._told_status = False, ""
        self._callbacks_seen = 0
        self._rescanning: asyncio.Task[None] | None = None
        self._keeper: MicrophoneKeeper | None = None
        self.server_rate_hz = 0
        """A sound server's rate that the stream has to take; 0: the stream's own."""

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
            await self._tell_port()
            self.session.start()
            loop.run_in_executor(None, self._clear_leftovers)
            if self.settings.models.content_encoder == AUTO and not has_encoders(self.settings):
                log.info("only the built-in voice can speak: `rvcd assets fetch` gets the content encoder of RVC voices")
            backend, why = await loop.run_in_executor(None, choose_backend, self.settings)
            log.info("audio device", extra=fields(backend=backend, why=why))
            if backend == "virtual":  # what was measured was a card's
                self.session.telemetry.latency_offset_ms = 0.0
            segment, memory = self.session.segment, remembered(self._connections_file)
            name = client_name(self.settings.instance)
            self._keeper = microphone_keeper(self.settings, backend, self.settings.instance)
            device = self.session.telemetry.device_supervisor = DeviceSupervisor(
                device_factory(self.settings, backend, segment, memory, self._follow_rate, self._keeper, name), segment
            )
            device.start()
            if self._keeper is not None:
                self._keeper.start()
            await self._tick_until_stopped(device)
        finally:
            await self._shut_down()

    def _clear_leftovers(self) -> None:
        """Remove what imports have left that were killed. Beside everything else: the disk may take its time."""
        for folder in self.settings.voices.folders:
            if count := clear_leftovers(Path(folder)):
                log.info("removed what killed imports had left", extra=fields(folder=folder, count=count))

    @property
    def stopped(self) -> bool:
        """Whether stop() was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End run()."""
        log.info("stopping")
        self._stop.set()

    async def _tell_port(self) -> None:
        """Let rvcctl find the daemon; keep a port that was chosen here for the next start."""
        host, port = self.server.address
        if self._announcement is not None:
            self._announcement.listens(host, port)
        if self.settings.osc.port == ANY_PORT and port != self._last_port:
            folder = self._connections_file.parent
            try:
                await self.session.disk.run(str(folder), lambda: remember_port(folder, port), SAVE_LIMIT_S)
            except RvcdError as error:
                log.warning("%s", error)

    def _follow_rate(self, rate_hz: int) -> None:
        """Runs in the device's thread: a sound server has another rate than the stream."""
        if MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ and rate_hz % FRAMES_PER_SECOND == 0:
            self.server_rate_hz = rate_hz

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
            try:
                await self.session.rescan_voices()
            except RvcdError as error:
                log.warning("the voices are what they were: %s", error)
            except Exception:
                log.exception("the voices are what they were: looking for them failed unexpectedly")
            finally:  # whatever came of it, systemd must not wait for ever
                self.notifier.ready(self._status_line())

        self._rescanning = asyncio.get_running_loop().create_task(work(), name="rescan")

    def _changed(self) -> None:
        """Echo at once what the session changed by itself."""
        self.server.changed()

    async def _tick_until_stopped(self, device: DeviceSupervisor) -> None:
        watchdog_s = self.notifier.watchdog_interval_s or float("inf")
        next_watchdog_s = next_extension_s = 0.0
        while not self._stop.is_set():
            device.poll()
            heard = self._keeper.drain_events() if self._keeper is not None else []
            for level, text in [*device.drain_events(), *heard]:
                log.log(getattr(logging, level.upper()), "%s", text)
            self._announce()
            now = time.monotonic()
            if self._announced:
                self._tell_status()
            elif now >= next_extension_s:
                next_extension_s = now + EXTEND_S
                self.notifier.extend_timeout(START_MORE_S)
            if now >= next_watchdog_s and self._audio_moves(device):
                next_watchdog_s = now + watchdog_s
                self.notifier.watchdog()
            self.session.tick(now)
            self.saver.poll(self.session.to_save(), now)
            if self.server_rate_hz:
                log.warning("the sound server runs at %d Hz: the stream is built anew for it", self.server_rate_hz)
                return
            if getattr(device.device, "finished", False):
                log.info("the virtual device's input is played; stopping")
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_S)

    def _announce(self) -> None:
        """Say once that everything runs, to systemd and to the person who started it."""
        if self._announced or self.session.stream.worker.state is not WorkerState.RUNNING:
            return
        self._announced = True
        self.notifier.ready(self._status_line())
        host, port = self.server.address
        instance = self.settings.instance
        where = f"--name {instance}" if instance else f"--host {host} --port {port}"
        log.info("%s; watch it with: rvcctl %s", self._status_line(), where)

    def _tell_status(self) -> None:
        """Let `systemctl status` show every change of the state, however short."""
        line = self._status_line()
        if line != self._told_status:
            self._told_status = line
            self.notifier.status(line)

    def _status_line(self) -> str:
        voice = f", voice {self.session.voice().name}" if self.session.voice().name else ""
        return f"{self.session.state().value}{voice}, latency {self.session.telemetry.latency_ms:.0f} ms"

    def _audio_moves(self, device: DeviceSupervisor) -> bool:
        """True when the callback ran since the last look, or is known not to run (the device is being brought back)."""
        callbacks = self.session.segment.counters().callbacks
        moved = callbacks != self._callbacks_seen
        self._callbacks_seen = callbacks
        return moved or device.state is not DeviceState.RUNNING

    async def _shut_down(self) -> None:
        if self.stopped or not self.server_rate_hz:  # else it goes on at the server's rate: nothing ends for systemd
            self.notifier.stopping()
        session, device = self.session, self.session.telemetry.device_supervisor
        if self._keeper is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._keeper.stop)
        if device is not None:
            # Fade out: a device that ends in the middle of a wave clicks.
            session.segment.set_mute(True)
            session.monitor.set(silent=True)
            await asyncio.sleep(FADE_OUT_S)
            await asyncio.get_running_loop().run_in_executor(None, device.stop, STOP_LIMIT_S)
            for level, text in device.drain_events():
                log.log(getattr(logging, level.upper()), "%s", text)
        state = session.to_save()
        await session.stop()
        await self.server.close()
        await self.saver.close(state, SAVE_LIMIT_S)
        session.segment.close()


def _has_terminal() -> bool:
    """Say whether this process has a terminal that still is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _say_what_is_configured(settings: Settings) -> None:
    """Say where the configuration of a name would be, where it has none of its own."""
    if settings.instance and settings.source == DEFAULT_CONFIG:
        file = config_files(settings.instance)[0]
        log.info("no configuration of its own for '%s', so the defaults hold: it would be %s", settings.instance, file)


async def run(settings: Settings, worker: WorkerChild) -> None:
    """Run the daemon until it is told to stop. Raises RvcdError if it cannot start, as where another one has its state.

    A sound server's rate is followed: segment, stream and worker are built anew at that rate, with all that was set.
    """
    first: WorkerChild | None = worker
    instance = settings.instance
    with state_lock.hold(state_folder(instance), instance), Announcement(instance) as announcement:
        if announcement.problem:
            log.warning("%s", announcement.problem)
        _say_what_is_configured(settings)
        while True:
            daemon = Daemon(settings, first, announcement)
            await daemon.run()
            if not daemon.server_rate_hz or daemon.stopped:
                return
            audio = settings.audio.model_copy(update={"rate_hz": daemon.server_rate_hz})
            settings, first = settings.model_copy(update={"audio": audio}), None
