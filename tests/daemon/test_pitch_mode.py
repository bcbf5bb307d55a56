"""pitch_mode "auto" in a session: what reaches the worker, what is refused, what is saved, and what a change of voice does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from rvcd.config.settings import parse_config
from rvcd.daemon.session import LiveSession
from rvcd.daemon.state import SavedState, save_state
from rvcd.errors import ParamError
from rvcd.ipc.messages import Report
from rvcd.ipc.worker_stats import WorkerStats
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.params import VOICE_PARAMS
from rvcd.voices.configured import voice_files

PITCH = [param.name for param in VOICE_PARAMS].index("pitch")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ensure_test_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def new(tmp_path: Path, weights: Any) -> Iterator[Callable[..., LiveSession]]:
    """Sessions whose voices are High (220 Hz, brings pitch 7), Low (110 Hz) and Strange, without a register."""
    for name, text in (
        ("High", "f0_median_hz = 220.0\n[params]\npitch = 7.0\nformant = 1.0\n"),
        ("Low", "f0_median_hz = 110.0\n"), ("Strange", ""),
    ):  # fmt: skip
        (tmp_path / "voices" / name).mkdir(parents=True)
        (tmp_path / "voices" / name / f"{name}.pth").write_bytes(weights.voice_v2.read_bytes())
        (tmp_path / "voices" / name / "voice.toml").write_text(text)
    made: list[LiveSession] = []

    def make(voice: str = "High", saved: SavedState | None = None, **engine: str) -> LiveSession:
        tables = {
            "models": {"content_encoder": str(weights.encoder)},
            "voices": {"folders": [str(tmp_path / "voices")], "voice": voice}, "engine": engine,
        }  # fmt: skip
        file = tmp_path / "state.json"
        if saved is not None:
            save_state(saved, file)
        made.append(LiveSession(parse_config(tables, tmp_path / "rvcd.toml"), file))
        live(made[-1], voice)
        return made[-1]

    yield make
    for session in made:
        session.segment.close()


def live(session: LiveSession, name: str) -> None:
    """Let the worker say that a voice is live."""
    files = voice_files(session.settings, session.registry.find(name))
    owner = session.stream.owner
    owner.wanted = replace(owner.wanted, voice=files)
    owner.worker_reported(Report(owner.wanted.revision, owner.wanted, {}, "", ()))
    session._voice_went_live(files)


def speak(session: LiveSession, f0_hz: float, seconds: float = 6.0, pause_s: float = 1.0) -> None:
    """Let the worker's telemetry say that somebody speaks, then pauses."""
    blocks = session.pitch._blocks
    for voiced, level_dbfs, length_s in ((1.0, -20.0, seconds), (0.0, -70.0, pause_s)):
        for _ in range(round(length_s / 0.14)):
            blocks += 1
            session.pitch.look(WorkerStats(blocks=blocks, f0_hz=f0_hz * voiced, voiced=voiced, level_dbfs=level_dbfs), 0.14)
    session._publish_params()


def sent(session: LiveSession) -> float:
    return session.segment.read_params()[PITCH]


def test_it_is_manual_unless_it_is_asked_for(new: Callable[..., LiveSession]) -> None:
    session = new()
    speak(session, 110.0)
    assert (session.pitch_mode(), session.stats().pitch_auto, sent(session)) == ("manual", 0, 7.0)


def test_auto_transposes_to_the_register_and_pitch_is_added(new: Callable[..., LiveSession]) -> None:
    session = new("Low")
    assert session.set_pitch_mode("auto") == "auto"
    speak(session, 165.0)
    stats = session.stats()
    assert (stats.pitch_mode, stats.pitch_auto, stats.register_hz, sent(session)) == ("auto", -7, 110.0, -7.0)
    session.set_param("pitch", 2.0)
    assert (sent(session), session.get_param("pitch")) == (-5.0, 2.0)
    session.set_param("pitch", -24.0)
    assert sent(session) == -24.0


def test_turning_it_on_and_off_is_not_heard(new: Callable[..., LiveSession]) -> None:
    session = new("Low")
    session.set_param("pitch", 4.25)
    session.set_pitch_mode("auto")
    assert (sent(session), session.get_param("pitch"), session.stats().pitch_auto) == (4.25, 0.25, 4)
    speak(session, 220.0)
    before = sent(session)
    assert before == -11.75
    session.set_pitch_mode("manual")
    assert (sent(session), session.get_param("pitch"), session.stats().pitch_auto) == (before, before, 0)


def test_auto_is_refused_for_a_voice_without_a_register(new: Callable[..., LiveSession]) -> None:
    session = new("Strange")
    with pytest.raises(ParamError, match=r"Strange has no register .*`rvcd voice register 'Strange' --sample FILE` measures it"):
        session.set_pitch_mode("auto")
    assert session.pitch_mode() == "manual"


def test_configured_auto_warns_once_for_a_voice_without_a_register(
    new: Callable[..., LiveSession], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "rvcd.pitch"):
        session = new("Strange", pitch_mode="auto")
        live(session, "Strange")
    assert [record.getMessage() for record in caplog.records if "no register" in record.getMessage()] == [
        "pitch mode auto: Strange has no register (f0_median_hz in its voice.toml); `rvcd voice register 'Strange' --sample "
        "FILE` measures it; until then its pitch is set by hand"
    ]
    speak(session, 220.0)
    session.set_param("pitch", 3.0)
    assert (session.pitch_mode(), session.stats().register_hz, sent(session)) == ("auto", 0.0, 3.0)


def test_a_change_of_voice_changes_the_transposition_at_once(new: Callable[..., LiveSession]) -> None:
    session = new("Low", pitch_mode="auto")
    speak(session, 110.0)
    assert sent(session) == 0.0
    live(session, "High")
    assert sent(session) == 12.0, "without the 7 that its voice.toml has for manual"
    assert session.get_param("formant") == 1.0
    live(session, "Strange")
    assert sent(session) == 0.0
    live(session, "Low")
    assert sent(session) == 0.0


def test_mode_and_transposition_survive_a_restart(new: Callable[..., LiveSession]) -> None:
    session = new("Low")
    session.set_pitch_mode("auto")
    speak(session, 220.0)
    saved = session.to_save()
    assert (saved.pitch_mode, saved.pitch_auto) == ("auto", -12)
    again = new("Low", saved)
    assert (again.pitch_mode(), sent(again), again.get_param("pitch")) == ("auto", -12.0, 0.0)


def test_a_worker_that_starts_again_disturbs_nothing(new: Callable[..., LiveSession]) -> None:
    session = new("Low", pitch_mode="auto")
    speak(session, 220.0)
    assert not session.pitch.look(WorkerStats(blocks=1, f0_hz=500.0, voiced=1.0, level_dbfs=-10.0), 0.14)
    assert sent(session) == -12.0
