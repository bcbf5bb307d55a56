"""The running session, as OSC steers it: voices, parameters, switches, presets, latency, recording. No torch here.

Satisfies control.session.Session. All of it runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rvcd.audio.device_supervisor import DeviceState
from rvcd.config.logs import fields
from rvcd.config.settings import Settings
from rvcd.config.sizes import geometry_of
from rvcd.daemon.bottleneck import Held, StageWatch, advice
from rvcd.daemon.disk import DiskWorker
from rvcd.daemon.input_watch import DEAD_AFTER_S, InputWatch
from rvcd.daemon.log_tail import LogTail
from rvcd.daemon.monitor import Monitor
from rvcd.daemon.overload import OverloadWatch
from rvcd.daemon.pitch_mode import PitchMode
from rvcd.daemon.preset_choices import CHOICES_NAME, PresetChoices, choice_key, sentence_of
from rvcd.daemon.presets import PresetBook, load_presets, presets_path, save_presets
from rvcd.daemon.recording import Recording, record_settings
from rvcd.daemon.state import SavedState, load_state
from rvcd.daemon.stream import Stream
from rvcd.daemon.switches import Switches, TalkKey
from rvcd.daemon.telemetry import Telemetry
from rvcd.daemon.worker import WorkerChild, WorkerState
from rvcd.errors import RvcdError
from rvcd.ipc.messages import Choice, VoiceFiles, Wanted
from rvcd.ipc.segment import AudioSegment
from rvcd.osc.names import find_name, whole_in
from rvcd.osc.session import NO_VOICE, LogLine, SupersededError, VoiceStatus
from rvcd.params import VOICE_PARAMS, ParamStore
from rvcd.protocol import LATENCY_PRESET_NAMES, State, Stats
from rvcd.voices.configured import first_voice, model_setup, scan_voices, voice_files
from rvcd.voices.registry import VoiceRegistry

RECORDING_END_S = 5.0
"""A service is killed 15 s after it was told to stop; device and worker take their share of that."""
DISK_LIMIT_S = 10.0

log = logging.getLogger("rvcd.session")


class LiveSession:
    """on_change: called when something changed by itself."""

    def __init__(
        self,
        settings: Settings,
        state_file: Path,
        on_change: Callable[[], None] = lambda: None,
        worker: WorkerChild | None = None,
    ) -> None:
        """worker: the first one, started already. Raises RvcdError for settings that cannot work. Nothing else runs yet."""
        self.settings, self._on_change = settings, on_change
        self.log_tail = LogTail()
        logging.getLogger("rvcd").addHandler(self.log_tail)
        self.disk = DiskWorker()
        saved, warning = load_state(state_file)
        self._presets_file = presets_path(state_file)
        self._presets, presets_warning = load_presets(self._presets_file)
        for sentence in (warning, presets_warning):
            if sentence:
                log.warning("%s", sentence)
        self._choices = PresetChoices.load(state_file.with_name(CHOICES_NAME))
        self._saving: asyncio.Task[None] | None = None
        self._preset_name = saved.preset
        self.params = ParamStore({**settings.initial_params(), **saved.params})
        self.pitch = PitchMode(saved.pitch_mode or settings.engine.pitch_mode, saved.pitch_auto, self.params)
        self._told_skipped: frozenset[str] = frozenset()
        self.registry = self._scan_voices()
        self.segment = AudioSegment.create(settings.audio.rate_hz)
        talk = TalkKey(lambda delay_s, work: asyncio.get_running_loop().call_later(delay_s, work), self._talk_heard)
        self.switches = Switches(self.segment, settings.talk.mode, talk, mute=saved.mute, panic=saved.panic)
        self.stream = self._new_stream(saved, worker)
        self.recording = Recording(
            self.segment, record_settings(settings.record, settings.instance), lambda reason: self._on_change()
        )
        self.monitor = Monitor(
            self.segment, settings.audio, gain_db=self.params.get("monitor"), mute=saved.monitor_mute,
            source=saved.monitor_source or settings.audio.monitor.source,
        )  # fmt: skip
        self.telemetry = Telemetry(
            self.segment, self.stream, self.switches, self.recording, self.monitor, self.pitch, settings.audio.latency_offset_ms
        )
        self.overload, self.stages = OverloadWatch(), StageWatch()
        self.input = InputWatch(self.segment)
        self._advice, self._told_hint = Held(), ""
        self._asked: VoiceStatus | None = None
        """The voice asked for last, while its files are being looked at."""
        self._looking: asyncio.Future[VoiceFiles] | None = None

    def _new_stream(self, saved: SavedState, worker: WorkerChild | None) -> Stream:
        """Resume what was wanted last, as far as it is there."""
        settings = self.settings
        names = self.registry.names
        self._missing = (saved.voice, saved.speaker) if saved.voice and saved.voice not in names else None
        entry = first_voice(settings, self.registry, saved.voice)
        files = voice_files(settings, entry) if entry is not None else None
        resumed = entry is not None and entry.name == saved.voice
        if entry is not None and not resumed:  # its own parameters count where nothing is resumed
            self._set_params({**entry.params, **saved.params})
        self.pitch.use_voice(files)
        if self._missing is not None and files is not None:
            log.warning(
                "the voice of the last run, '%s', is not there; speaking with '%s' until one is chosen",
                saved.voice, files.name,
            )  # fmt: skip
        # With push-to-convert the raw voice is heard from the start, and its delay must not change.
        silent = settings.talk.mode != "push-to-convert"
        choosing = settings.latency.chooses and not saved.latency_preset and files is not None and silent
        f0_method = saved.f0_method or settings.engine.f0_method
        self._choice_key = choice_key(settings, files, f0_method, self.version) if choosing and files is not None else ""
        known = self._choices.get(self._choice_key)
        if known:
            log.info("latency preset %s, as measured on this machine with this voice (latency.preset decides otherwise)", known)
        self._unasked = known or settings.latency.named
        wanted = Wanted(
            voice=files,
            speaker=saved.speaker if resumed else entry.speaker if entry is not None else 0,
            f0_method=f0_method,
            latency=saved.latency_preset or self._unasked,
        )
        geometries = {name: geometry_of(settings, name) for name in LATENCY_PRESET_NAMES}
        return Stream(
            self.segment,
            model_setup(settings),
            geometries,
            wanted,
            self.switches,
            self._on_change,
            self._voice_went_live,
            self._latency_was_chosen,
            to_choose=LATENCY_PRESET_NAMES if choosing and not known else (),
            first=worker,
        )

    def _latency_was_chosen(self, choice: Choice) -> None:
        """Nothing has been heard yet. Keep it for the next start, unless another program was in the way."""
        self._unasked = choice.latency
        log.info("%s", sentence_of(choice))
        if choice.sure:
            self._choices.put(self._choice_key, choice.latency)
            document = self._choices.copy()
            self._saving = asyncio.get_running_loop().create_task(self._keep_choices(document), name="latency choices")

    async def _keep_choices(self, choices: PresetChoices) -> None:
        try:
            await self.disk.run(str(choices.path), choices.save, DISK_LIMIT_S)
        except RvcdError as error:
            log.warning("%s", error)

    def start(self) -> None:
        """Hand the segment what holds now, and start the worker."""
        self.switches.apply()
        self.monitor.set(silent=self.switches.panic)
        self._publish_params()
        self.telemetry.gpu.start()
        self.stream.start()

    async def stop(self) -> None:
        """End the recording and the worker; the device has been stopped before."""
        try:
            await asyncio.wait_for(self.recording.stop(), RECORDING_END_S)
        except (RvcdError, asyncio.TimeoutError) as error:
            log.warning("%s", str(error) or f"the recording did not end within {RECORDING_END_S:g} s; its file may lack its end")
        await self.monitor.stop()
        await self.stream.stop()
        self.telemetry.gpu.stop()
        logging.getLogger("rvcd").removeHandler(self.log_tail)

    def to_save(self) -> SavedState:
        """Return what survives a restart: what is wanted."""
        wanted = self.stream.owner.wanted
        voice, speaker = self._missing or (wanted.voice.name if wanted.voice else "", wanted.speaker)
        return SavedState(
            voice=voice, speaker=speaker, f0_method=wanted.f0_method,
            latency_preset="" if wanted.latency == self._unasked else wanted.latency, preset=self.preset(),
            params=dict(self.params.current), mute=self.switches.mute, panic=self.switches.panic,
            monitor_mute=self.monitor.mute, monitor_source=self.monitor.source,
            pitch_mode="" if self.pitch.mode == self.settings.engine.pitch_mode else self.pitch.mode,
            pitch_auto=self.pitch.semitones,
        )  # fmt: skip

    # ---- state

    @property
    def version(self) -> str:
        try:
            return version("rvcd")
        except PackageNotFoundError:
            return "unknown"

    def state(self) -> State:
        switches, worker = self.switches, self.stream.worker
        if switches.panic:
            return State.PANIC
        device = self.telemetry.device_supervisor
        if device is None or device.state is DeviceState.OPENING:
            return State.STARTING
        if device.state is not DeviceState.RUNNING or device.notice:
            return State.NO_DEVICE
        if worker.state is WorkerState.STARTING:
            return State.STARTING
        if not worker.responsive:
            return State.RECOVERING
        if switches.mute:
            return State.MUTED
        if switches.standby:
            return State.STANDBY
        if switches.raw:
            return State.BYPASS
        if self.stream.voice is None:
            return State.NO_VOICE
        if self.input.dead:
            return State.NO_INPUT
        return State.OVERLOADED if self.overload.active else State.LIVE

    # ---- numbers and presets

    def get_param(self, name: str) -> float:
        return self.params.get(name)

    def set_param(self, name: str, value: float) -> float:
        applied = self.params.set(name, value)
        if name == "monitor":
            self.monitor.set(gain_db=applied)
        else:
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
        book, name = self._presets.put(name_or_number, self.params.of_voice())
        await self._keep_presets(book)
        self._preset_name = name
        return name

    async def delete_preset(self, name_or_number: str | int) -> str:
        book, name = self._presets.without(name_or_number)
        await self._keep_presets(book)
        return name

    async def _keep_presets(self, book: PresetBook) -> None:
        """Write first: what could not be kept does not hold."""
        file = self._presets_file
        await self.disk.run(str(file), lambda: save_presets(book, file), DISK_LIMIT_S)
        self._presets = book

    def _set_params(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.params.set(name, value)

    def _publish_params(self) -> None:
        values = {**self.params.current, "pitch": self.pitch.transposition()}
        self.segment.publish_params([values[param.name] for param in VOICE_PARAMS])

    # ---- switches

    def get_switch(self, name: str) -> bool:
        if name == "monitor_mute":
            return self.monitor.mute
        return self.recording.active if name == "record" else self.switches.get(name)

    def set_switch(self, name: str, on: bool) -> bool:
        if name == "monitor_mute":
            self.monitor.set(mute=bool(on))
            return bool(on)
        geometry = self.stream.geometry
        self.switches.set(name, bool(on), geometry.latency_samples / geometry.rate_hz)
        return bool(on)

    def _talk_heard(self) -> None:
        self.switches.apply()
        self._on_change()

    def monitor_source(self) -> str:
        return self.monitor.source

    def set_monitor_source(self, name: str) -> str:
        self.monitor.set(source=name)
        return self.monitor.source

    def panicked(self) -> bool:
        return self.switches.panic

    def panic(self) -> None:
        if not self.switches.panic:
            log.warning("panic: muted until /panic/clear")
        self.switches.panic = True
        self.stream.flush()
        self.switches.apply()
        self.monitor.set(silent=True)
        self.stream.worker.flush()

    def clear_panic(self) -> None:
        if self.switches.panic:
            self.switches.panic = False
            self.stream.flush()
            self.switches.apply()
            self.monitor.set(silent=False)

    # ---- voices

    def voice(self) -> VoiceStatus:
        return self._status_of(self.stream.voice)

    def wanted_voice(self) -> VoiceStatus:
        return self._asked or self._status_of(self.stream.owner.wanted.voice)

    def _status_of(self, voice: VoiceFiles | None) -> VoiceStatus:
        if voice is None:
            return NO_VOICE
        return VoiceStatus(voice.name, next((e.slot for e in self.registry.entries if e.name == voice.name), 0))

    def voices(self) -> Sequence[VoiceStatus]:
        return [VoiceStatus(entry.name, entry.slot) for entry in self.registry.entries]

    async def load_voice(self, name_or_slot: str | int) -> VoiceStatus:
        entry = self.registry.find(name_or_slot)
        asked = self._asked = VoiceStatus(entry.name, entry.slot)
        looking = self._looking = asyncio.ensure_future(
            self.disk.run(str(entry.path), lambda: voice_files(self.settings, entry), DISK_LIMIT_S)
        )
        try:
            files = await looking
            if self._asked is not asked:
                raise SupersededError
        finally:
            if self._asked is asked:
                self._asked = None
        self._missing = None
        await self.stream.want("voice", files, speaker=entry.speaker)
        return self.voice()

    def _voice_went_live(self, voice: VoiceFiles) -> None:
        """A voice brings its parameters along (voice.toml), in time for its first block."""
        entry = next((entry for entry in self.registry.entries if entry.name == voice.name), None)
        self.pitch.use_voice(voice)
        if entry is not None and str(entry.path) == voice.path:
            # Where auto finds the transposition, the one that the voice brings along for manual would be added to it.
            own = {name: value for name, value in entry.params.items() if name != "pitch" or not self.pitch.acts}
            self._set_params(own)
        self._publish_params()

    async def rescan_voices(self) -> int:
        self.registry = await self.disk.run("the folders of voices", self._scan_voices, DISK_LIMIT_S)
        log.info("voices scanned again", extra=fields(voices=len(self.registry.entries)))
        return len(self.registry.entries)

    def _scan_voices(self) -> VoiceRegistry:
        """Look for voices, and say what was passed over and whether there are none at all."""
        registry = scan_voices(self.settings)
        for sentence in registry.skipped:
            if sentence not in self._told_skipped:
                log.warning("%s", sentence)
        self._told_skipped = frozenset(registry.skipped)
        if not registry.entries and not self.settings.voices.voice:
            log.warning(
                "there is no voice (*.pth) in %s: the output stays silent; put one there and start again, or set voices.voice",
                ", ".join(map(str, registry.folders)) or "any folder: voices.folders is empty",
            )
        return registry

    def speaker(self) -> int:
        applied = self.stream.owner.applied
        return applied.speaker if applied is not None and applied.voice is not None else 0

    async def set_speaker(self, name_or_number: str | int) -> int:
        while self._asked is not None and self._looking is not None:  # a voice that was asked for before comes before
            await asyncio.wait({self._looking})
            await asyncio.sleep(0)
        await self.stream.want("speaker", self._speaker_number(name_or_number))
        return self.speaker()

    def _speaker_number(self, name_or_number: str | int) -> int:
        """Return the number of a speaker of the wanted voice. Raises RvcdError for one that it is known to lack."""
        live, wanted, names = self.stream.voice, self.stream.owner.wanted.voice, self.stream.owner.speakers
        if wanted is None:
            raise RvcdError("there is no voice whose speaker could be chosen; choose a voice first")
        if wanted != live:  # what it has is not known yet: the worker says so
            if isinstance(name_or_number, str):
                raise RvcdError(f"{wanted.name} is still being loaded; choose its speaker by number, or when it is live")
            return name_or_number
        if isinstance(name_or_number, str):
            found, number = find_name(name_or_number, [name for name in names if name]), whole_in(name_or_number)
            if found is not None:
                return names.index(found)
            if number is None or number >= len(names):
                known = ", ".join(name for name in names if name)[:200] or f"they have no names; use 0..{len(names) - 1}"
                raise RvcdError(f"{live.name} has no speaker called '{name_or_number}'; known: {known}")
            return number
        if not 0 <= name_or_number < len(names):
            raise RvcdError(f"speaker {name_or_number} is outside {live.name}'s 0..{len(names) - 1}")
        return name_or_number

    def f0_method(self) -> str:
        applied = self.stream.owner.applied
        return (applied.f0_method if applied is not None else "") or self.stream.owner.wanted.f0_method

    def pitch_mode(self) -> str:
        return self.pitch.mode

    def set_pitch_mode(self, name: str) -> str:
        self.pitch.set(name, self.stream.voice)
        self._publish_params()
        return self.pitch.mode

    async def set_f0_method(self, name: str) -> str:
        await self.stream.want("f0_method", name)
        return self.f0_method()

    # ---- latency

    def latency_preset(self) -> str:
        return self.stream.latency

    async def set_latency_preset(self, name: str) -> str:
        await self.stream.want("latency", name)
        return self.stream.latency

    # ---- recording

    async def set_record(self, on: bool) -> bool:
        if on and not self.recording.active:
            await self.recording.start(self.voice().name)
        elif not on:
            await self.recording.stop()
        return self.recording.active

    # ---- telemetry

    def tick(self, now_s: float) -> None:
        """Look at what changes by itself; about ten times a second."""
        counters = self.segment.counters()
        self.telemetry.tick()
        supervisor = self.telemetry.device_supervisor
        self.monitor.look(supervisor.device if supervisor is not None else None, now_s)
        if self.overload.look(now_s, counters.device_position, counters.late_samples):
            self._on_change()
        self._look_at_input()
        self.stages.look(self.stream.worker.stats)
        geometry = self.stream.geometry
        if self.pitch.look(self.stream.worker.stats, geometry.ms(geometry.block_samples) / 1000):
            self._publish_params()
            self._on_change()
        late = self.overload.late_blocks(now_s, self.stream.worker.stats)
        if late is not None:
            log.warning(
                "overloaded: %d of the last %d blocks were too late and are silent; %s", late.late, late.all, self.advice()
            )

    def advice(self) -> str:
        """Say what makes blocks late and what would help, "" while they are in time."""
        usual = self.stages.usual
        if usual is None or not (self.overload.active or self.overload.many_late):
            return self._advice.show("", 0.0)
        geometry = self.stream.geometry
        sentence = advice(
            usual, deadline_ms=geometry.ms(geometry.deadline_samples), f0_method=self.f0_method(),
            latency_preset=self.latency_preset(),
        )  # fmt: skip
        return self._advice.show(sentence, time.monotonic())

    def _look_at_input(self) -> None:
        """Only of a card or server that runs and lacks nothing: the virtual device has no microphone and no loudspeaker."""
        supervisor = self.telemetry.device_supervisor
        device = supervisor.device if supervisor is not None and supervisor.state is DeviceState.RUNNING else None
        if supervisor is None or device is None or not device.realtime or not self.settings.audio.input or supervisor.notice:
            self.input.pause()
        elif self.input.look():
            self._on_change()
        hint = self.hint()
        if hint and hint != self._told_hint:
            log.warning("%s", hint)
        self._told_hint = hint

    def hint(self) -> str:
        """Say what is amiss around rvcd, "" while nothing is: it goes on all the same."""
        if self.input.dead:
            channel = self.settings.audio.input_channel
            return (
                f"nothing but digital silence has come from the microphone for {DEAD_AFTER_S:g} s: is it muted or unplugged, is "
                f"it the right one (audio.input), on the right channel (audio.input_channel = {channel})?"
            )
        if self.input.echo_ms:
            return (
                "the microphone hears what rvcd plays: it is converted again and again, and may howl; use headphones, turn the "
                "loudspeaker down, or choose another input"
            )
        if self.params.get("denoise") > 0 and not self.stream.geometry.denoise_samples:
            return 'denoise is on, but no denoiser is loaded: set engine.denoiser = "gtcrn" and start rvcd again'
        return ""

    def log_lines(self, after: int) -> Sequence[LogLine]:
        return self.log_tail.after(after)

    def stats(self) -> Stats:
        return self.telemetry.read(self)
