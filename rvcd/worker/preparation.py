"""From what is wanted to what the audio loop runs: loads and warms up beside the loop, hands over, reports what came of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
import torch
from msgspec.structs import replace

from rvcd.engine.converter import Converter
from rvcd.engine.loader import Loader
from rvcd.engine.pitch import PitchMethod
from rvcd.engine.voice_stream import Voice
from rvcd.errors import ParamError, RvcdError
from rvcd.formats.voice_config import SynthesizerConfig
from rvcd.geometry import ENCODER_HOP_SAMPLES, StreamGeometry
from rvcd.ipc.messages import VoiceFiles, Wanted, WorkerSetup
from rvcd.params import Snapshot
from rvcd.worker.loop import AudioLoop
from rvcd.worker.preset_choice import PresetMeasurement
from rvcd.worker.reporter import Reporter
from rvcd.worker.voice_change import VoiceChange
from rvcd.worker.warm_up import warm_up
from rvcd.yielding import yielding

LOOK_S = 0.05
"""How often something that waits looks whether something newer is wanted."""


class Overtaken(Exception):
    """What was being prepared is not wanted any more."""


class Preparation:
    """Turns one Wanted after the other into what runs, always the newest. bring_about() and serve() on one thread at a time."""

    def __init__(self, setup: WorkerSetup, loader: Loader, loop: AudioLoop, reporter: Reporter) -> None:
        """reporter: its report's `applied` is what runs; only this class changes it."""
        self._setup, self._loader, self._loop, self._reporter = setup, loader, loop, reporter
        self._voice: Voice | None = None
        self._method: PitchMethod | None = None
        self._warmed: set[tuple[SynthesizerConfig, str]] = set()
        self._threads: dict[tuple[SynthesizerConfig, str], int] = {}
        self._newest: Wanted | None = None
        self._cut = ""
        self._told = threading.Condition()

    # ---- for the thread that listens to the control process

    def want(self, wanted: Wanted) -> None:
        """Prepare this next, in place of what is still to be prepared."""
        with self._told:
            self._newest = wanted
            self._told.notify_all()

    def cut(self, latency: str) -> None:
        """Nothing is heard now: the prepared latency preset may take over."""
        with self._told:
            self._cut = latency
            self._told.notify_all()

    def use_threads(self, count: int) -> None:
        """Compute what runs with so many threads, and go back to that number whenever it runs again."""
        if self._voice is not None and self._applied.voice is not None:
            self._threads[self._voice.spec.config, self._applied.voice.encoder] = count
        torch.set_num_threads(count)

    # ---- the thread that prepares

    def serve(self) -> None:
        """Bring about whatever is wanted, for ever; at each yield point of the loading the audio loop goes first."""
        while True:
            with self._told:
                self._told.wait_for(lambda: self._newest is not None and self._newest.revision != self._revision)
                wanted = self._newest
            assert wanted is not None
            with yielding(self._loop.idle.waiter()):
                self.bring_about(wanted)

    @property
    def _applied(self) -> Wanted:
        return self._reporter.report.applied

    @property
    def _revision(self) -> int:
        return self._reporter.report.revision

    def bring_about(self, wanted: Wanted) -> None:
        """Apply each field that differs from what runs, and report the revision when all are done or have failed."""
        errors: dict[str, str] = {}
        steps: tuple[tuple[str, Callable[[Wanted, dict[str, str]], None]], ...] = (
            ("f0_method", self._use_f0_method), ("voice", self._use_voice), ("latency", self._use_latency),
        )  # fmt: skip
        for name, step in steps:
            try:
                step(wanted, errors)
            except Overtaken:
                return
            except RvcdError as reason:
                errors[name] = str(reason)
            except Exception as reason:  # a defect, or memory: what runs must survive it
                errors[name] = f"unexpected {type(reason).__name__}: {reason}"
            if self._is_overtaken(wanted):
                return
        self._reporter.tell(revision=wanted.revision, errors=errors)

    def _is_overtaken(self, wanted: Wanted) -> bool:
        with self._told:
            return self._newest is not None and self._newest.revision > wanted.revision

    def _now_applies(self, **changes: object) -> None:
        names = tuple(self._voice.spec.speaker_names) if self._voice is not None else ()
        self._reporter.tell(applied=replace(self._applied, **changes), speakers=names)

    # ---- before anything is heard

    def choose_latency(self) -> None:
        """Measure which latency preset the machine holds with the voice, and go over to it. Only before the loop runs."""
        names, converter, applied = self._setup.choose, self._loop.converter, self._applied
        voice, files = self._voice, applied.voice
        if not names or converter is None or voice is None or files is None:
            return
        measurement = PresetMeasurement(
            self._setup.geometries, applied.latency, converter,
            lambda geometry: self._fresh_converter(voice, applied.speaker, files.gain_db, geometry),
        )  # fmt: skip
        choice = measurement.choose(names)
        if choice.latency != applied.latency:
            geometry = self._setup.geometries[choice.latency]
            chosen = measurement.converters.get(choice.latency) or measurement.fresh(geometry)
            self._loop.call(lambda: self._loop.resize(geometry, chosen))
            self._now_applies(latency=choice.latency)
        self._reporter.tell(choice=choice)

    # ---- F0 method

    def _use_f0_method(self, wanted: Wanted, errors: dict[str, str]) -> None:
        name = wanted.f0_method
        if name == self._applied.f0_method:
            return
        method = self._loader.pitch_method(name)
        method.estimate(np.zeros((method.context_frames + method.step_frames) * ENCODER_HOP_SAMPLES, np.float32))
        if (converter := self._loop.converter) is not None:
            self._loop.call(lambda: converter.use_pitch(method))
        self._method = method
        self._now_applies(f0_method=name)

    # ---- voice and speaker

    def _use_voice(self, wanted: Wanted, errors: dict[str, str]) -> None:
        """Load and warm up a voice, then hand it to the loop, which goes on with the old one until the new one is ready."""
        applied, files = self._applied, wanted.voice
        if (files, wanted.speaker) == (applied.voice, applied.speaker):
            return
        if files is None:
            self._loop.call(lambda: self._loop.use(None))
            self._voice = None
            self._now_applies(voice=None, speaker=wanted.speaker)
            return
        if self._method is None:
            raise ParamError(f"{files.name}: there is no F0 method to convert with; choose one that can be loaded")
        voice = self._loader.voice(files)
        speaker = wanted.speaker
        if not 0 <= speaker < voice.spec.speakers:
            errors["speaker"] = f"{files.path}: has speakers 0..{voice.spec.speakers - 1}, not {speaker}"
            if files == applied.voice:
                return
            speaker = 0
        self._hand_over(voice, files, speaker, wanted)
        self._voice = voice
        self._now_applies(voice=files, speaker=speaker)

    def _hand_over(self, voice: Voice, files: VoiceFiles, speaker: int, wanted: Wanted) -> None:
        converter = self._loop.converter
        paths = (voice.spec.config, files.encoder)
        if converter is None or paths not in self._warmed:
            fresh = self._fresh_converter(voice, speaker, files.gain_db, self._loop.geometry)
            self._warmed.add(paths)
            if converter is None:
                self._loop.call(lambda: self._loop.use(fresh))
                return
        self._give_threads(paths)
        stream = converter.new_stream(voice, speaker, files.gain_db)
        converter.rehearse(stream)
        change = VoiceChange(stream)
        self._loop.call(lambda: self._loop.begin_change(change))
        while not change.ended.wait(LOOK_S):
            with self._told:
                newest = self._newest
            if newest is not None and (newest.voice, newest.speaker) != (wanted.voice, wanted.speaker):
                self._loop.call(lambda: self._loop.cancel_change("another voice is wanted"))
        if change.error:
            if self._is_overtaken(wanted):
                raise Overtaken
            raise ParamError(f"{files.name}: {change.error}")

    def _give_threads(self, paths: tuple[SynthesizerConfig, str]) -> None:
        """Let the loop have as many threads as the voice that comes in needs: another encoder's work may be a hundred times more.

        As many as were measured for it, or else all cores.
        """
        live = self._applied.voice
        if self._setup.models.threads or live is None or live.encoder == paths[1]:
            return
        count = self._threads.get(paths, os.cpu_count() or 1)
        self._loop.call(lambda: torch.set_num_threads(count))

    def _fresh_converter(self, voice: Voice, speaker: int, gain_db: float, geometry: StreamGeometry) -> Converter:
        assert self._method is not None
        snapshot = Snapshot.from_values(self._loop.segment.read_params())
        fresh = self._loader.converter(voice, self._method, snapshot, speaker=speaker, gain_db=gain_db, geometry=geometry)
        warm_up(fresh)
        return fresh

    # ---- latency

    def _use_latency(self, wanted: Wanted, errors: dict[str, str]) -> None:
        """Make a converter of other sizes for what runs, and let it take over when the control process says that it is silent."""
        applied, name = self._applied, wanted.latency
        if name == applied.latency:
            return
        geometry = self._setup.geometries[name]
        converter: Converter | None = None
        if self._voice is not None and applied.voice is not None:
            converter = self._fresh_converter(self._voice, applied.speaker, applied.voice.gain_db, geometry)
        with self._told:
            self._cut = ""
        self._reporter.tell(prepared=name)
        try:
            self._wait_for_cut(wanted)
            self._loop.call(lambda: self._loop.resize(geometry, converter))
            self._now_applies(latency=name)
        finally:
            self._reporter.tell(prepared="")

    def _wait_for_cut(self, wanted: Wanted) -> None:
        """Raises Overtaken when another latency is wanted meanwhile."""
        with self._told:
            while self._cut != wanted.latency:
                if self._newest is not None and self._newest.latency != wanted.latency:
                    raise Overtaken
                self._told.wait()
