"""What the OSC server steers: parameters, switches, voices, presets, latency, telemetry, over the worker and the segment.

Satisfies control.session.Session. All of it runs on the event loop's thread. No torch here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rvcd.assembly import first_voice, geometry_of, request_for, scan_voices, voice_params, worker_setup
from rvcd.audio.guard import DeviceGuard, DeviceState
from rvcd.audio.ring import AudioSegment
from rvcd.config import Settings
from rvcd.control.gpu import GpuMonitor
from rvcd.control.log_tail import LogTail
from rvcd.control.logs import fields
from rvcd.control.session import NO_VOICE, LogLine, VoiceStatus
from rvcd.errors import RvcdError
from rvcd.models.registry import VoiceRegistry
from rvcd.params import PARAMS, ParamStore
from rvcd.presets import PresetBook, load_presets, presets_path, save_presets
from rvcd.protocol import WORKER_STATS, State, Stats, to_dbfs
from rvcd.recording import Recording, record_settings
from rvcd.state import SavedState, load_state
from rvcd.supervisor import WorkerState, WorkerSupervisor
from rvcd.worker_process import WorkerProcess

FADE_OUT_S = 0.03
RECORDING_END_S = 5.0
"""A service is killed 15 s after it was told to stop; device and worker take their share of that."""

log = logging.getLogger("rvcd.daemon")


@dataclass
class Switches:
    """What can be on or off.

    panic is latched until it is cleared. talk: the key is held. talking: what is heard now was said while it was held.
    """

    bypass: bool = False
    mute: bool = False
    panic: bool = False
    talk: bool = False
    talking: bool = False


class LiveRig:
    """The running rig. guard: set once the device is being opened. on_change: called when something changed by itself."""

    def __init__(
        self,
        settings: Settings,
        state_file: Path,
        on_change: Callable[[], None] = lambda: None,
        worker: WorkerProcess | None = None,
    ) -> None:
        """worker: the first one, started already. Raises RvcdError for settings that cannot work. Nothing else runs yet."""
        self.settings, self.on_change = settings, on_change
        self.log_tail = LogTail()
        logging.getLogger("rvcd").addHandler(self.log_tail)
        saved, warning = load_state(state_file)
        self._presets_file = presets_path(state_file)
        self._presets, presets_warning = load_presets(self._presets_file)
        for sentence in (warning, presets_warning):
            if sentence:
                log.warning("%s", sentence)
        self._preset_name = saved.preset
        self.params = ParamStore({**settings.initial_params(), **saved.params})
        self.switches = Switches(mute=saved.mute, panic=saved.panic)
        self._latency_preset = saved.latency_preset or settings.latency.preset
        self.geometry = geometry_of(settings, self._latency_preset)
        self.registry = self._scan_voices()
        voice = first_voice(settings, self.registry, saved.voice)
        if voice is not None and voice.name == saved.voice:
            voice = replace(voice, speaker=saved.speaker)
        elif voice is not None:  # its own parameters count where nothing is resumed
            self._set_params({**voice_params(voice), **saved.params})
        self.segment = AudioSegment.create(self.geometry.rate_hz)
        self.segment.set_latency_samples(self.geometry.latency_samples)
        method = saved.f0_method or settings.engine.f0_method
        setup = worker_setup(settings, voice, method, self._latency_preset)
        self.supervisor = WorkerSupervisor(self.segment, setup, self._worker_changed, first=worker)
        self.recording = Recording(self.segment, record_settings(settings.record), lambda reason: self.on_change())
        self.gpu = GpuMonitor()
        self.guard: DeviceGuard | None = None
        self.started_s = time.monotonic()
        self._earlier_workers = dict.fromkeys(WORKER_STATS, 0.0)
        self._loading = ""
        self._resizing = False

    def start(self) -> None:
        """Hand the segment what holds now, and start the worker."""
        self._apply_switches()
        self._publish_params()
        self.gpu.start()
        self.supervisor.start()

    async def stop(self) -> None:
        """End the recording and the worker; the device has been stopped before."""
        try:
            await asyncio.wait_for(self.recording.stop(), RECORDING_END_S)
        except (RvcdError, asyncio.TimeoutError) as error:
            log.warning("%s", str(error) or f"the recording did not end within {RECORDING_END_S:g} s; its file may lack its end")
        await self.supervisor.stop()
        self.gpu.stop()
        logging.getLogger("rvcd").removeHandler(self.log_tail)

    def to_save(self) -> SavedState:
        """Return what survives a restart."""
        voice, preset = self.supervisor.voice, self._latency_preset
        return SavedState(
            voice=voice.name if voice else "", speaker=voice.speaker if voice else 0, f0_method=self.f0_method(),
            latency_preset="" if preset == self.settings.latency.preset else preset, preset=self.preset(),
            params=dict(self.params.current), mute=self.switches.mute, panic=self.switches.panic,
        )  # fmt: skip

    # ---- state

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
        if self._is_standby():
            return State.STANDBY
        if self._is_bypassed():
            return State.BYPASS
        return State.LIVE if self.supervisor.voice else State.NO_VOICE

    # ---- numbers and presets

    def get_param(self, name: str) -> float:
        return self.params.get(name)

    def set_param(self, name: str, value: float) -> float:
        applied = self.params.set(name, value)
        self._publish_params()
        return applied

    def preset(self) -> str:
        kept = next((preset.params for preset in self._presets.presets if preset.name == self._preset_name), None)
        is_as_kept = kept is not None and all(self.params.current[name] == value for name, value in kept.items())
        return self._preset_name if is_as_kept else ""

    def presets(self) -> Sequence[str]:
        return self._presets.names

    def recall_preset(self, name_or_number: str | int) -> str:
        preset = self._presets.find(name_or_number)
        self._set_params(preset.params)
        self._publish_params()
        self._preset_name = preset.name
        return preset.name

    async def save_preset(self, name_or_number: str | int) -> str:
        book, name = self._presets.put(name_or_number, self.params.current)
        await self._keep_presets(book)
        self._preset_name = name
        return name

    async def delete_preset(self, name_or_number: str | int) -> str:
        book, name = self._presets.without(name_or_number)
        await self._keep_presets(book)
        return name

    async def _keep_presets(self, book: PresetBook) -> None:
        """Write first: what could not be kept does not hold."""
        await asyncio.get_running_loop().run_in_executor(None, save_presets, book, self._presets_file)
        self._presets = book

    # ---- switches

    def get_switch(self, name: str) -> bool:
        return self.recording.active if name == "record" else bool(getattr(self.switches, name))

    def set_switch(self, name: str, on: bool) -> bool:
        if name == "talk":
            self._set_talk(on)
        else:
            setattr(self.switches, name, bool(on))
            self._apply_switches()
        return bool(on)

    def _set_talk(self, on: bool) -> None:
        """Follow the key, later by the latency: what is heard then is what was said at the key's move.

        So a sentence is heard to its end after the release, and nothing that was said before the press is.
        """
        if self.settings.talk.mode == "off":
            raise RvcdError(
                "talk.mode is 'off', so /talk does nothing; set it to 'push-to-talk' or 'push-to-convert' in the configuration"
            )
        if on == self.switches.talk:
            return
        self.switches.talk = on
        delay_s = self.geometry.latency_samples / self.geometry.rate_hz
        asyncio.get_running_loop().call_later(delay_s, self._hear_talk, on)

    def _hear_talk(self, on: bool) -> None:
        self.switches.talking = on
        self._apply_switches()
        self.on_change()

    def _is_standby(self) -> bool:
        return self.settings.talk.mode == "push-to-talk" and not self.switches.talking

    def _is_bypassed(self) -> bool:
        return self.switches.bypass or (self.settings.talk.mode == "push-to-convert" and not self.switches.talking)

    def _apply_switches(self) -> None:
        silent = self.switches.mute or self.switches.panic or self._resizing or self._is_standby()
        self.segment.set_mute(silent)
        self.segment.set_bypass(self._is_bypassed())

    def panicked(self) -> bool:
        return self.switches.panic

    def panic(self) -> None:
        if not self.switches.panic:
            log.warning("panic: muted until /panic/clear")
        self.switches.panic = True
        self._flush()
        self._apply_switches()
        self.supervisor.flush()

    def clear_panic(self) -> None:
        if self.switches.panic:
            self.switches.panic = False
            self._flush()
            self._apply_switches()

    def _flush(self) -> None:
        """Nothing said before now may still be heard."""
        self.segment.silence_until(self.segment.device_position() + self.geometry.latency_samples)

    # ---- voices

    def voice(self) -> VoiceStatus:
        live = self.supervisor.voice
        if live is None:
            return NO_VOICE
        return VoiceStatus(live.name, next((e.slot for e in self.registry.entries if e.name == live.name), 0))

    def wanted_voice(self) -> VoiceStatus:
        return self.voice()

    def voices(self) -> Sequence[VoiceStatus]:
        return [VoiceStatus(entry.name, entry.slot) for entry in self.registry.entries]

    async def load_voice(self, name_or_slot: str | int) -> VoiceStatus:
        entry = self.registry.find(name_or_slot)
        self._loading = entry.name
        try:
            is_new = await self.supervisor.load_voice(request_for(entry))
        finally:
            self._loading = ""
        if is_new:
            self._set_params(entry.params)
            self._publish_params()
        self._worker_changed()
        return self.voice()

    async def rescan_voices(self) -> int:
        self.registry = await asyncio.get_running_loop().run_in_executor(None, self._scan_voices)
        log.info("voices scanned again", extra=fields(voices=len(self.registry.entries)))
        return len(self.registry.entries)

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

    def speaker(self) -> int:
        return self.supervisor.voice.speaker if self.supervisor.voice else 0

    async def set_speaker(self, name_or_number: str | int) -> int:
        live, names = self.supervisor.voice, self.supervisor.speakers
        if live is None:
            raise RvcdError("there is no voice whose speaker could be chosen; choose a voice first")
        if isinstance(name_or_number, str):
            if name_or_number not in names:
                known = ", ".join(name for name in names if name)[:200] or f"they have no names; use 0..{len(names) - 1}"
                raise RvcdError(f"{live.name} has no speaker called '{name_or_number}'; known: {known}")
            name_or_number = names.index(name_or_number)
        if not 0 <= name_or_number < len(names):
            raise RvcdError(f"speaker {name_or_number} is outside {live.name}'s 0..{len(names) - 1}")
        await self.supervisor.load_voice(replace(live, speaker=name_or_number))
        return self.speaker()

    def f0_method(self) -> str:
        return self.supervisor.setup.f0_method

    async def set_f0_method(self, name: str) -> str:
        await self.supervisor.set_f0_method(name)
        return self.f0_method()

    # ---- latency

    def latency_preset(self) -> str:
        return self._latency_preset

    async def set_latency_preset(self, name: str) -> str:
        if name != self._latency_preset:
            geometry = geometry_of(self.settings, name)
            await self.supervisor.prepare_sizes(geometry)
            # Muted, so that the cut between the two latencies is heard as a pause and not as a click.
            self._resizing = True
            self._apply_switches()
            try:
                await asyncio.sleep(FADE_OUT_S)
                await self.supervisor.take_sizes(geometry)
                self.geometry, self._latency_preset = geometry, name
                self._flush()
            finally:
                # A worker that died half way may have set it already; the next one is told these sizes.
                self.segment.set_latency_samples(self.geometry.latency_samples)
                self._resizing = False
                self._apply_switches()
            log.info("latency changed", extra=fields(preset=name, total_ms=round(self.latency_ms(), 1)))
        return self._latency_preset

    def latency_ms(self) -> float:
        """The published latency: the stream's own plus what the device says of its buffers."""
        device = self.guard.device if self.guard else None
        buffers = device.input_latency_ms + device.output_latency_ms if device else 0.0
        return self.geometry.ms(self.geometry.latency_samples) + buffers

    # ---- recording

    async def set_record(self, on: bool) -> bool:
        if on and not self.recording.active:
            await self.recording.start(self.voice().name)
        elif not on:
            await self.recording.stop()
        return self.recording.active

    # ---- telemetry

    def log_lines(self, after: int) -> Sequence[LogLine]:
        return self.log_tail.after(after)

    def stats(self) -> Stats:
        counters, geometry = self.segment.counters(), self.geometry
        worker = dict(zip(WORKER_STATS, self.segment.read_worker_stats(), strict=False))
        in_peak, out_peak = self.segment.take_peaks()

        def total(name: str) -> int:
            return int(worker[name] + self._earlier_workers[name])

        device = self.guard.device if self.guard else None
        room = geometry.block_samples + geometry.deadline_samples
        gpu = self.gpu.latest
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
            record=int(self.recording.active),
            record_s=self.recording.seconds,
            talk=int(self.switches.talk),
            talk_mode=self.settings.talk.mode,
            speaker=self.speaker(),
            speakers=max(1, len(self.supervisor.speakers)),
            latency_preset=self._latency_preset,
            preset=self.preset(),
            loading=self._loading,
            gpu_util=gpu.util if gpu else -1.0,
            gpu_memory_mb=gpu.memory_mb if gpu else 0.0,
            gpu_memory_total_mb=gpu.memory_total_mb if gpu else 0.0,
        )

    # ---- inside

    def _set_params(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.params.set(name, value)

    def _publish_params(self) -> None:
        self.segment.publish_params([self.params.current[param.name] for param in PARAMS])

    def _worker_changed(self) -> None:
        running = self.supervisor.state is WorkerState.RUNNING
        if not running:
            # The next worker counts from zero; what the user sees must not go back.
            stats = dict(zip(WORKER_STATS, self.segment.read_worker_stats(), strict=False))
            for name, value in stats.items():
                self._earlier_workers[name] += value
            self.segment.publish_worker_stats([0.0] * len(WORKER_STATS))
        self.segment.set_expect_output(running and self.supervisor.voice is not None)
