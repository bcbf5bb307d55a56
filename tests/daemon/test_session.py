"""The session without a worker: what it wants, what it saves, and that a disk that hangs holds nothing up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from rvcd.config.settings import Latency, Settings, parse_config
from rvcd.daemon import session as session_module
from rvcd.daemon.session import LiveSession
from rvcd.daemon.state import SavedState, save_state
from rvcd.errors import RvcdError
from rvcd.ipc.messages import Choice, Report
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.osc.session import SupersededError
from rvcd.params import VOICE_PARAMS
from rvcd.protocol import LATENCY_PRESET_NAMES, State
from tests.waiting import HANG_S


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ensure_test_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def settings(tmp_path: Path, weights: Any) -> Settings:
    for name in ("Anna", "Bert", "Carl"):
        (tmp_path / "voices" / name).mkdir(parents=True)
        (tmp_path / "voices" / name / f"{name}.pth").write_bytes(weights.voice_v2.read_bytes())
    (tmp_path / "voices" / "Carl" / "voice.toml").write_text("speaker = 1\n[params]\npitch = 7.0\n")
    tables = {"models": {"content_encoder": str(weights.encoder)}, "voices": {"folders": [str(tmp_path / "voices")]}}
    return parse_config(tables, tmp_path / "rvcd.toml")


@pytest.fixture
def new(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., LiveSession]]:
    made: list[LiveSession] = []

    def make(saved: SavedState | None = None) -> LiveSession:
        file = tmp_path / "state.json"
        if saved is not None:
            save_state(saved, file)
        made.append(LiveSession(settings, file))
        return made[-1]

    yield make
    for session in made:
        session.segment.close()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), HANG_S))


def obey(session: LiveSession) -> None:
    """Let a worker report that it runs all that is wanted."""
    wanted = session.stream.owner.wanted
    session.stream.owner.worker_reported(Report(wanted.revision, wanted, {}, "", ("first", "second")))
    session.stream._follow()


async def soon(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_what_is_saved_is_what_is_wanted_also_while_the_models_load(new: Callable[..., LiveSession]) -> None:
    session = new(SavedState(voice="Bert", speaker=1))
    session.set_param("pitch", 3.0)  # a fader moves before any worker has said anything
    saved = session.to_save()
    assert (saved.voice, saved.speaker, saved.params["pitch"]) == ("Bert", 1, 3.0)


def test_a_voice_that_is_not_there_today_is_not_forgotten(new: Callable[..., LiveSession]) -> None:
    session = new(SavedState(voice="Zoe", speaker=3))
    assert session.stream.owner.wanted.voice is not None and session.stream.owner.wanted.voice.name == "Anna"
    assert (session.to_save().voice, session.to_save().speaker) == ("Zoe", 3)

    async def work() -> None:
        asking = asyncio.ensure_future(session.load_voice("Bert"))
        await soon(lambda: session.stream.owner.wanted.voice.name == "Bert")
        obey(session)
        await asking
        assert (session.to_save().voice, session.to_save().speaker) == ("Bert", 0)

    run(work)


def test_the_last_voice_asked_for_wins_however_long_the_disk_takes_for_the_first(
    new: Callable[..., LiveSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, looks = threading.Event(), session_module.voice_files

    def look(settings: Any, entry: Any) -> Any:
        if entry.name == "Bert":
            assert go_on.wait(HANG_S)
        return looks(settings, entry)

    session = new()
    obey(session)
    monkeypatch.setattr(session_module, "voice_files", look)

    async def work() -> None:
        bert = asyncio.ensure_future(session.load_voice("Bert"))
        await soon(lambda: session.wanted_voice().name == "Bert")
        carl = asyncio.ensure_future(session.load_voice("Carl"))
        await soon(lambda: session.stream.owner.wanted.voice.name == "Carl")
        go_on.set()
        with pytest.raises(SupersededError):
            await bert
        obey(session)
        assert (await carl).name == "Carl"

    run(work)


def test_a_speaker_asked_for_right_after_a_voice_is_of_that_voice(new: Callable[..., LiveSession]) -> None:
    session = new()
    obey(session)

    async def work() -> None:
        voice = asyncio.ensure_future(session.load_voice("Carl"))
        await soon(lambda: session.wanted_voice().name == "Carl")
        speaker = asyncio.ensure_future(session.set_speaker(0))
        await soon(lambda: session.stream.owner.wanted.voice.name == "Carl" and session.stream.owner.wanted.speaker == 0)
        obey(session)
        assert (await voice).name == "Carl" and await speaker == 0

    run(work)


def test_a_voice_brings_its_parameters_when_it_goes_live_and_not_before(new: Callable[..., LiveSession]) -> None:
    session = new()
    obey(session)
    session.set_param("pitch", -2.0)

    async def work() -> None:
        asking = asyncio.ensure_future(session.load_voice("Carl"))
        await soon(lambda: session.stream.owner.wanted.voice.name == "Carl")
        assert session.get_param("pitch") == -2.0
        obey(session)
        await asking
        assert session.get_param("pitch") == 7.0 and session.speaker() == 1

    run(work)


def test_a_replaced_file_and_an_edited_voice_toml_are_another_voice_after_a_rescan(
    new: Callable[..., LiveSession], tmp_path: Path
) -> None:
    session = new(SavedState(voice="Carl", speaker=1))
    obey(session)
    before = session.stream.owner.wanted

    async def work() -> None:
        await session.load_voice("Carl")
        assert session.stream.owner.wanted == before, "nothing has changed: nothing is loaded"
        (tmp_path / "voices" / "Carl" / "voice.toml").write_text("[params]\npitch = 9.0\n")
        await session.rescan_voices()
        asking = asyncio.ensure_future(session.load_voice("Carl"))
        await soon(lambda: session.stream.owner.wanted.revision > before.revision)
        obey(session)
        await asking
        assert session.get_param("pitch") == 9.0

    run(work)


def test_a_disk_that_hangs_is_the_error_of_who_asked_and_holds_up_nobody_else(
    new: Callable[..., LiveSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    session = new()
    obey(session)
    monkeypatch.setattr(session_module, "voice_files", lambda settings, entry: go_on.wait(HANG_S))
    monkeypatch.setattr(session_module, "save_presets", lambda book, file: go_on.wait(HANG_S))
    monkeypatch.setattr(session_module, "DISK_LIMIT_S", 0.1)

    async def work() -> None:
        hung = [asyncio.ensure_future(session.load_voice("Bert")), asyncio.ensure_future(session.save_preset("Deep"))]
        session.set_param("pitch", 4.0)
        session.panic()
        session.clear_panic()
        session.tick(time.monotonic())
        for waiting in hung:
            with pytest.raises(RvcdError, match="the disk has not answered"):
                await waiting
        assert session.voice().name == "Anna" and session.presets() == ()

    run(work)
    go_on.set()


def test_telemetry_can_be_read_before_any_worker_has_said_anything(new: Callable[..., LiveSession]) -> None:
    stats = new().stats()
    assert (stats.state, stats.f0_hz, stats.blocks, stats.voice) == (State.STARTING.value, 0.0, 0, "")
    assert stats.loading == "Anna"


def test_what_was_lost_on_the_way_is_in_the_telemetry(new: Callable[..., LiveSession]) -> None:
    from tests.audio.conftest import HandDriven

    session = new()
    session.segment.set_expect_output(True)
    device = HandDriven(session.segment)
    import numpy as np

    device.process(np.full(480, np.nan, np.float32))
    stats = session.stats()
    assert (stats.late_samples, stats.late_events, stats.bad_input_samples) == (480, 1, 480)
    device.close()


def test_a_voice_that_cannot_run_is_named_in_the_telemetry(new: Callable[..., LiveSession]) -> None:
    session = new()
    wanted = session.stream.owner.wanted
    nothing = replace(wanted, voice=None)
    session.stream.owner.worker_reported(Report(wanted.revision, nothing, {"voice": "anna.pth: is cut short"}, "", ()))
    stats = session.stats()
    assert stats.fault == "anna.pth: is cut short" and stats.loading == "" and session.to_save().voice == "Anna"


def test_the_monitor_is_of_the_desk_and_presets_leave_it_alone(new: Callable[..., LiveSession]) -> None:
    session = new(SavedState(params={"monitor": -12.0}, monitor_mute=True, monitor_source="microphone"))
    assert (session.get_param("monitor"), session.get_switch("monitor_mute"), session.monitor_source()) == (
        -12.0, True, "microphone",
    )  # fmt: skip

    async def work() -> None:
        await session.save_preset("Deep")
        session.set_param("monitor", -3.0)
        assert session.preset() == "Deep"
        session.recall_preset("Deep")
        assert session.get_param("monitor") == -3.0

    run(work)
    session.set_switch("monitor_mute", False)
    session.set_monitor_source("converted")
    saved = session.to_save()
    assert (saved.params["monitor"], saved.monitor_mute, saved.monitor_source) == (-3.0, False, "converted")
    assert len(session.segment.read_params()) == len(VOICE_PARAMS)


def test_panic_silences_the_monitor_and_its_end_lets_it_be_what_it_was(new: Callable[..., LiveSession]) -> None:
    session = new(SavedState(panic=True))
    session.switches.apply()
    session.clear_panic()
    assert not session.monitor.silent
    session.panic()
    assert session.monitor.silent and not session.monitor.mute


def choose(session: LiveSession, latency: str, *, sure: bool = True) -> None:
    """Let a worker report that it runs what is wanted, at the latency preset that it has chosen."""
    wanted = replace(session.stream.owner.wanted, latency=latency)
    choice = Choice(latency, {"low": 0.3, "balanced": 0.2}, sure)
    session.stream.owner.worker_reported(Report(wanted.revision, wanted, {}, "", ("first", "second"), choice))
    session.stream._follow()


def test_a_latency_preset_is_measured_once_and_holds_at_the_next_start(new, tmp_path, caplog) -> None:
    async def work() -> None:
        caplog.set_level("INFO", "rvcd")
        session = new()
        assert session.stream.owner.to_choose == LATENCY_PRESET_NAMES and session.latency_preset() == "balanced"
        choose(session, "low")
        assert session.latency_preset() == "low" and session.stream.owner.settled
        geometry = session.stream.geometry
        assert session.segment.latency_samples() == geometry.latency_samples and geometry.block_frames == 4
        assert "latency preset low, chosen by measurement" in caplog.text
        assert session.to_save().latency_preset == ""
        await soon((tmp_path / "latency-choices.json").exists)
        again = new()
        assert again.stream.owner.to_choose == () and again.latency_preset() == "low"
        assert again.stream.owner.wanted.latency == "low" and again.to_save().latency_preset == ""
        assert "as measured on this machine" in caplog.text

    run(work)


def test_what_was_measured_beside_a_busy_program_is_measured_again(new, tmp_path) -> None:
    async def work() -> None:
        session = new()
        choose(session, "safe", sure=False)
        assert session.latency_preset() == "safe"
        assert new().stream.owner.to_choose == LATENCY_PRESET_NAMES
        assert not (tmp_path / "latency-choices.json").exists()

    run(work)


def test_another_voice_is_measured_for_itself(new, tmp_path) -> None:
    async def work() -> None:
        choose(new(), "low")
        await soon((tmp_path / "latency-choices.json").exists)
        assert new(SavedState(voice="Bert")).stream.owner.to_choose == LATENCY_PRESET_NAMES

    run(work)


def test_a_latency_preset_that_was_asked_for_is_not_measured(new) -> None:
    session = new(SavedState(latency_preset="safe"))
    assert session.stream.owner.to_choose == () and session.latency_preset() == "safe"
    assert session.to_save().latency_preset == "safe"


def test_nothing_is_measured_where_the_raw_voice_is_heard_from_the_start(settings, tmp_path) -> None:
    configured = settings.model_copy(update={"talk": settings.talk.model_copy(update={"mode": "push-to-convert"})})
    session = LiveSession(configured, tmp_path / "state.json")
    try:
        assert session.stream.owner.to_choose == () and session.latency_preset() == "balanced"
    finally:
        session.segment.close()


@pytest.mark.parametrize("latency", [{"preset": "balanced"}, {"block_ms": 100}])
def test_a_configured_latency_is_not_measured(settings, tmp_path, latency) -> None:
    configured = settings.model_copy(update={"latency": Latency(**latency)})
    session = LiveSession(configured, tmp_path / "state.json")
    try:
        assert session.stream.owner.to_choose == () and session.latency_preset() == "balanced"
    finally:
        session.segment.close()


def test_the_latency_contains_a_denoiser_that_is_loaded_whether_it_is_on_or_off(tmp_path: Path, weights: Any) -> None:
    latencies = []
    for name in ("none", "gtcrn"):
        tables = {
            "models": {"content_encoder": str(weights.encoder)}, "voices": {"folders": [str(tmp_path)]},
            "engine": {"denoiser": name}, "params": {"denoise": 1.0},
        }  # fmt: skip
        session = LiveSession(parse_config(tables, tmp_path / "rvcd.toml"), tmp_path / f"{name}.json")
        try:
            stats = session.stats()
            latencies.append((session.segment.latency_samples(), stats.latency_denoise_ms))
            parts = stats.latency_block_ms + stats.latency_denoise_ms + stats.latency_lookahead_ms + stats.latency_deadline_ms
            assert stats.latency_total_ms == pytest.approx(parts)
            assert ("engine.denoiser" in session.hint()) == (name == "none")
            session.params.set("denoise", 0.0)
            assert session.hint() == "" and session.stats().latency_total_ms == stats.latency_total_ms
        finally:
            session.segment.close()
    (without, nothing), (with_it, added_ms) = latencies
    assert nothing == 0.0 and with_it - without == round(48 * added_ms) > 0
