"""From what is wanted to what runs: field by field, always the newest, and what fails leaves what runs alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from rvcd.errors import ModelFileError
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import Choice, ModelSetup, Report, VoiceFiles, Wanted, WorkerSetup
from rvcd.params import Snapshot
from rvcd.worker import preparation as preparation_module
from rvcd.worker.idle_time import IdleTime
from rvcd.worker.preparation import Preparation
from rvcd.worker.voice_change import VoiceChange
from rvcd.yielding import yield_point
from tests.waiting import HANG_S, eventually

LOW, SAFE = StreamGeometry(48000, 6, 10, 34, 1920), StreamGeometry(48000, 20, 10, 34, 9600)
ANNA, BERT = VoiceFiles("Anna", "anna.pth"), VoiceFiles("Bert", "bert.pth")
START = Wanted(ANNA, 0, "swift", "low", 1)


@dataclass
class FakeConverter:
    voice: str
    speaker: int
    geometry: StreamGeometry
    pitch: str

    applied = Snapshot()

    def new_stream(self, voice: Any, speaker: int, gain_db: float) -> Any:
        return SimpleNamespace(voice=voice, speaker=speaker)

    def rehearse(self, stream: Any) -> None:
        pass

    def use_pitch(self, method: Any) -> None:
        self.pitch = method.name

    def process(self, block: np.ndarray, snapshot: Snapshot) -> None:
        pass

    def reset(self) -> None:
        pass


@dataclass
class FakeLoader:
    """Voices with two speakers, Broken excepted. before(): called at the start of each load."""

    before: Callable[[str], None] = lambda name: None
    loaded: list[str] = field(default_factory=list)

    def voice(self, files: VoiceFiles) -> Any:
        self.before(files.name)
        self.loaded.append(files.name)
        if files.name == "Broken":
            raise ModelFileError("broken.pth: is cut short")
        if files.name == "Huge":
            raise MemoryError
        return SimpleNamespace(name=files.name, spec=SimpleNamespace(speakers=2, speaker_names=("a", "b"), config="40k"))

    def pitch_method(self, name: str) -> Any:
        if name == "rmvpe":
            raise ModelFileError("rmvpe needs its weights")
        return SimpleNamespace(name=name, context_frames=4, step_frames=1, estimate=lambda audio: None)

    def converter(self, voice: Any, method: Any, snapshot: Snapshot, *, speaker: int, gain_db: float, geometry: Any) -> Any:
        return FakeConverter(voice.name, speaker, geometry, method.name)


class FakeLoop:
    """Does errands at once. hold: changes of the voice go on until they are let go or cancelled."""

    def __init__(self) -> None:
        self.geometry, self.converter, self.idle = LOW, None, IdleTime()
        self.segment = SimpleNamespace(read_params=lambda: Snapshot().values())
        self.changes: list[VoiceChange] = []
        self.hold = False

    def call(self, work: Callable[[], None]) -> None:
        work()

    def use(self, converter: Any) -> None:
        self.converter = converter

    def begin_change(self, change: VoiceChange) -> None:
        self.changes.append(change)
        if not self.hold:
            self.finish(change)

    def finish(self, change: VoiceChange) -> None:
        self.converter.voice, self.converter.speaker = change.stream.voice.name, change.stream.speaker
        change.end("")

    def cancel_change(self, reason: str) -> None:
        if not self.changes[-1].ended.is_set():
            self.changes[-1].end(reason)

    def resize(self, geometry: StreamGeometry, converter: Any) -> None:
        self.geometry, self.converter = geometry, converter


class FakeReporter:
    def __init__(self) -> None:
        self.report = Report(-1, Wanted(None, 0, "", "low"), {}, "", ())
        self.prepared: list[str] = []

    def tell(self, **changes: Any) -> None:
        self.report = replace(self.report, **changes)
        if "prepared" in changes:
            self.prepared.append(changes["prepared"])


class Bench:
    def __init__(self) -> None:
        self.loader, self.loop, self.reporter = FakeLoader(), FakeLoop(), FakeReporter()
        setup = WorkerSetup(ModelSetup(""), {"low": LOW, "safe": SAFE}, 1)
        self.preparation = Preparation(setup, self.loader, self.loop, self.reporter)  # type: ignore[arg-type]

    @property
    def report(self) -> Report:
        return self.reporter.report

    def bring_about(self, wanted: Wanted) -> Report:
        self.preparation.bring_about(wanted)
        return self.report

    def serve(self) -> None:
        threading.Thread(target=self.preparation.serve, daemon=True).start()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(preparation_module, "warm_up", lambda converter: yield_point())
    return Bench()


def test_at_the_start_everything_that_is_wanted_is_brought_about(bench: Bench) -> None:
    report = bench.bring_about(START)
    assert report == Report(1, START.__class__(ANNA, 0, "swift", "low"), {}, "", ("a", "b"))
    assert bench.loop.converter == FakeConverter("Anna", 0, LOW, "swift")


def test_only_what_differs_is_done(bench: Bench) -> None:
    bench.bring_about(START)
    bench.bring_about(replace(START, f0_method="yin", revision=2))
    assert bench.loader.loaded == ["Anna"] and bench.loop.converter.pitch == "yin" and not bench.loop.changes


def test_another_voice_comes_by_a_change_of_the_running_converter(bench: Bench) -> None:
    bench.bring_about(START)
    running = bench.loop.converter
    report = bench.bring_about(replace(START, voice=BERT, speaker=1, revision=2))
    assert bench.loop.converter is running and (running.voice, running.speaker) == ("Bert", 1)
    assert (report.revision, report.applied.voice, report.applied.speaker) == (2, BERT, 1)


@pytest.mark.parametrize(("name", "error"), [("Broken", "broken.pth: is cut short"), ("Huge", "unexpected MemoryError: ")])
def test_a_voice_that_cannot_be_loaded_is_an_error_of_that_field_and_the_rest_is_applied(
    bench: Bench, name: str, error: str
) -> None:
    bench.bring_about(START)
    report = bench.bring_about(replace(START, voice=VoiceFiles(name, "x.pth"), f0_method="yin", revision=2))
    assert report.errors == {"voice": error} and report.revision == 2
    assert report.applied.voice == ANNA and report.applied.f0_method == "yin" and bench.loop.converter.voice == "Anna"


def test_a_speaker_that_the_voice_lacks_is_an_error_and_the_present_one_stays(bench: Bench) -> None:
    bench.bring_about(replace(START, speaker=1))
    report = bench.bring_about(replace(START, speaker=5, revision=2))
    assert "speakers 0..1, not 5" in report.errors["speaker"] and report.applied.speaker == 1


def test_a_saved_speaker_that_the_first_voice_lacks_is_its_first(bench: Bench) -> None:
    report = bench.bring_about(replace(START, speaker=5))
    assert report.applied.voice == ANNA and report.applied.speaker == 0 and "not 5" in report.errors["speaker"]


def test_without_a_pitch_method_there_is_no_voice_and_both_are_said(bench: Bench) -> None:
    report = bench.bring_about(replace(START, f0_method="rmvpe"))
    assert report.errors["f0_method"] == "rmvpe needs its weights" and report.applied.voice is None
    assert report.errors["voice"] == "Anna: there is no F0 method to convert with; choose one that can be loaded"
    report = bench.bring_about(replace(START, revision=2))
    assert report.errors == {} and report.applied.voice == ANNA


def test_another_latency_waits_for_the_word_that_nothing_is_heard(bench: Bench) -> None:
    bench.bring_about(START)
    bench.serve()
    bench.preparation.want(replace(START, latency="safe", revision=2))
    eventually(lambda: bench.report.prepared == "safe")
    assert bench.loop.geometry is LOW
    bench.preparation.cut("safe")
    eventually(lambda: bench.report.revision == 2)
    assert bench.loop.geometry is SAFE and bench.loop.converter.geometry is SAFE and bench.report.prepared == ""
    assert bench.report.applied.latency == "safe"


def test_a_word_for_an_earlier_latency_does_not_cut_this_one(bench: Bench) -> None:
    bench.bring_about(START)
    bench.preparation.cut("safe")  # nobody had prepared anything
    bench.serve()
    bench.preparation.want(replace(START, latency="safe", revision=2))
    eventually(lambda: bench.report.prepared == "safe")
    assert bench.loop.geometry is LOW
    bench.preparation.cut("safe")
    eventually(lambda: bench.report.revision == 2)


def test_a_latency_that_is_not_wanted_any_more_is_given_up(bench: Bench) -> None:
    bench.bring_about(START)
    bench.serve()
    bench.preparation.want(replace(START, latency="safe", revision=2))
    eventually(lambda: bench.report.prepared == "safe")
    bench.preparation.want(replace(START, revision=3))
    eventually(lambda: bench.report.revision == 3)
    assert bench.report.applied.latency == "low" and bench.loop.geometry is LOW and bench.report.prepared == ""


def test_a_voice_on_its_way_in_is_given_up_when_another_one_is_wanted(bench: Bench) -> None:
    bench.bring_about(START)
    bench.loop.hold = True
    bench.serve()
    bench.preparation.want(replace(START, voice=BERT, revision=2))
    eventually(lambda: len(bench.loop.changes) == 1)
    bench.loop.hold = False
    bench.preparation.want(replace(START, voice=VoiceFiles("Carl", "carl.pth"), revision=3))
    eventually(lambda: bench.report.revision == 3)
    assert bench.report.applied.voice == VoiceFiles("Carl", "carl.pth") and bench.report.errors == {}
    assert bench.loop.changes[0].error == "another voice is wanted"


def test_a_voice_on_its_way_in_stays_when_only_something_else_changes(bench: Bench) -> None:
    bench.bring_about(START)
    bench.loop.hold = True
    bench.serve()
    bench.preparation.want(replace(START, voice=BERT, revision=2))
    eventually(lambda: len(bench.loop.changes) == 1)
    bench.preparation.want(replace(START, voice=BERT, f0_method="yin", revision=3))
    bench.loop.finish(bench.loop.changes[0])
    eventually(lambda: bench.report.revision == 3)
    assert bench.report.applied.voice == BERT and bench.report.applied.f0_method == "yin" and len(bench.loop.changes) == 1


def test_of_requests_that_come_while_something_loads_only_the_newest_is_brought_about(bench: Bench) -> None:
    bench.bring_about(START)
    loading, go_on = threading.Event(), threading.Event()

    def before(name: str) -> None:
        loading.set()
        assert go_on.wait(HANG_S)

    bench.loader.before = before
    bench.serve()
    bench.preparation.want(replace(START, voice=BERT, revision=2))
    assert loading.wait(HANG_S)
    for revision in range(3, 9):
        bench.preparation.want(replace(START, voice=VoiceFiles(f"Voice {revision}", "x.pth"), revision=revision))
    go_on.set()
    eventually(lambda: bench.report.revision == 8)
    assert bench.loader.loaded == ["Anna", "Bert", "Voice 8"] and bench.report.applied.voice.name == "Voice 8"


def test_loading_yields_to_the_loop_and_never_while_it_holds_the_word_of_what_is_wanted(bench: Bench) -> None:
    """While the loop computes, loading stands still at its yield points; new wishes and the cut are taken in all the same."""
    bench.bring_about(START)
    at_a_point = threading.Event()

    def before(name: str) -> None:
        bench.loop.idle.end()  # the loop begins to compute
        at_a_point.set()
        yield_point()

    bench.loader.before = before
    bench.serve()
    bench.preparation.want(replace(START, voice=BERT, revision=2))
    assert at_a_point.wait(HANG_S)
    bench.preparation.want(replace(START, voice=BERT, f0_method="yin", revision=3))  # returns at once
    bench.preparation.cut("safe")
    assert bench.loader.loaded == ["Anna"]
    bench.loader.before = lambda name: None
    bench.loop.idle.begin()
    eventually(lambda: bench.report.revision == 3)


def test_a_voice_of_another_encoder_gets_all_cores_and_the_first_one_its_measured_number_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(preparation_module.torch, "set_num_threads", given.append)
    monkeypatch.setattr(preparation_module.os, "cpu_count", lambda: 8)
    bench.bring_about(START)
    bench.preparation.use_threads(1)
    bench.bring_about(replace(START, voice=BERT, revision=2))
    assert given == [1], "of the same encoder: nothing changes"
    own = replace(BERT, encoder="spin")
    bench.bring_about(replace(START, voice=own, revision=3))
    bench.bring_about(replace(START, revision=4))
    assert given == [1, 8, 1]


# ---- which latency preset the machine holds


class FakeMeasurement:
    """Chooses `chosen`, which it has measured where `converters` has it."""

    chosen = "safe"

    def __init__(self, geometries: Any, name: str, running: Any, fresh: Callable[[StreamGeometry], Any]) -> None:
        self.fresh, self.converters = fresh, {name: running}

    def choose(self, names: tuple[str, ...]) -> Choice:
        assert names == ("low", "safe")
        return Choice(self.chosen, {"low": 0.9}, True)


@pytest.fixture
def choosing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(preparation_module, "PresetMeasurement", FakeMeasurement)
    bench.preparation._setup = replace(bench.preparation._setup, choose=("low", "safe"))
    bench.bring_about(START)
    return bench


def test_the_preset_that_was_chosen_runs_before_anything_is_heard(choosing: Bench) -> None:
    choosing.preparation.choose_latency()
    assert choosing.loop.geometry == SAFE and choosing.loop.converter == FakeConverter("Anna", 0, SAFE, "swift")
    assert choosing.report.applied.latency == "safe" and choosing.report.choice == Choice("safe", {"low": 0.9}, True)
    assert choosing.reporter.prepared == []


def test_the_preset_that_runs_may_be_the_one_that_is_chosen(choosing: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeMeasurement, "chosen", "low")
    converter = choosing.loop.converter
    choosing.preparation.choose_latency()
    assert choosing.loop.converter is converter and choosing.report.applied.latency == "low"
    assert choosing.report.choice == Choice("low", {"low": 0.9}, True)


def test_without_a_voice_nothing_is_measured(bench: Bench) -> None:
    bench.preparation._setup = replace(bench.preparation._setup, choose=("low", "safe"))
    bench.preparation.choose_latency()
    assert bench.report.choice is None


def test_nothing_is_measured_where_a_preset_is_configured(bench: Bench) -> None:
    bench.bring_about(START)
    bench.preparation.choose_latency()
    assert bench.report.choice is None
