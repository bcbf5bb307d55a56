"""Two daemons with names at once, as real processes: nothing of one is the other's, and each is found and ends by itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvcd.protocol import DEFAULT_PORT
from tests.daemon_process import NamedDaemon, until_the_block_ends
from tests.waiting import HANG_S, eventually

CONFIG = '[audio]\nbackend = "virtual"\n[voices]\nvoice = "{voice}"\n[latency]\npreset = "safe"\n[record]\nmin_free_mb = 10\n'
VOICES = {"deep": "test-buzz", "high": "test-hum"}


def daemon_of(machine: Path, name: str) -> NamedDaemon:
    return NamedDaemon(machine, name, CONFIG.format(voice=VOICES.get(name, "test-buzz")), {"HOME": str(machine / "home")})


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.fixture
def pair(machine: Path) -> Iterator[tuple[NamedDaemon, NamedDaemon]]:
    deep, high = daemon_of(machine, "deep"), daemon_of(machine, "high")
    with until_the_block_ends(deep), until_the_block_ends(high):
        yield deep, high


def test_two_daemons_with_names_share_no_port_voice_mute_preset_state_or_recording(
    pair: tuple[NamedDaemon, NamedDaemon], machine: Path
) -> None:
    deep, high = pair
    assert len({deep.port, high.port, DEFAULT_PORT}) == 3
    for daemon in pair:
        daemon.osc.until(lambda stats: stats.state == "live" and stats.blocks > 0)
    assert [daemon.osc.stats().voice for daemon in pair] == list(VOICES.values())

    deep.osc.ask("/rvc/mute", 1)
    deep.osc.ask("/rvc/pitch", -5.0)
    assert deep.osc.do("/rvc/preset/save", "Own").address == "/rvc/done"
    assert high.osc.do("/rvc/preset/recall", "Own").address == "/rvc/fail"
    assert high.osc.ask("/rvc/pitch").params == [0.0]
    assert (deep.osc.stats().state, high.osc.stats().state) == ("muted", "live")

    for daemon in pair:
        assert daemon.osc.ask("/rvc/record", 1).params[0] == 1
    for daemon in pair:
        daemon.osc.until(lambda stats: stats.record == 1)
        daemon.osc.ask("/rvc/record", 0)
    eventually(lambda: len(list((machine / "home").rglob("*.flac"))) == 2, "two recordings")
    music = machine / "home" / "Music" / "rvcd"
    assert {file.parent for file in music.rglob("*.flac")} == {music / "deep", music / "high"}

    assert deep.stop() == 0
    assert high.osc.stats().state == "live"
    states = machine / "state" / "rvcd"
    assert {path.name for path in states.iterdir()} == {"rvcd@deep", "rvcd@high"}, "nothing where the unnamed one keeps its own"
    assert not (states / "rvcd@high" / "presets.json").exists()

    port = deep.port
    deep.start()
    deep.wait_until_it_listens()
    deep.osc.until(lambda stats: stats.state == "muted")
    assert deep.port == port, "the port of the last run was free, and is taken again"
    assert high.osc.stats().mute == 0


def test_a_second_start_of_a_name_is_refused_in_one_sentence_whatever_its_state_folder(machine: Path) -> None:
    with until_the_block_ends(daemon_of(machine, "deep")) as first:
        first.osc.ask("/rvc/mute", 1)
        for environment in ({}, {"XDG_STATE_HOME": str(machine / "other state")}):
            second = daemon_of(machine, "deep")
            second.log_path = machine / "second.txt"
            second.environment.update(environment)
            second.start()
            assert second.process is not None and second.process.wait(HANG_S) == 1
            assert second.log.splitlines()[-1] == (
                f"rvcd: rvcd 'deep' runs already (process {first.process.pid}): "  # type: ignore[union-attr]
                "end it first, or start this one under another --name"
            )
            assert "Traceback" not in second.log
        assert first.told() is not None
        assert first.osc.stats().mute == 1


def test_a_killed_daemon_is_no_longer_found_and_its_name_can_be_started_again(machine: Path) -> None:
    deep = daemon_of(machine, "deep").start()
    deep.wait_until_it_listens()
    assert deep.process is not None
    deep.process.send_signal(signal.SIGKILL)
    deep.process.wait(HANG_S)
    assert (machine / "run" / "rvcd@deep.json").exists()
    assert deep.told() is None
    assert not (machine / "run" / "rvcd@deep.json").exists()
    with until_the_block_ends(deep):
        assert deep.told() is not None
    assert deep.told() is None


def test_a_name_without_a_configuration_starts_with_the_defaults_and_says_where_its_own_would_be(machine: Path) -> None:
    new = daemon_of(machine, "new")
    file = machine / "config" / "rvcd" / "rvcd@new.toml"
    file.unlink()
    (file.parent / "rvcd.toml").write_text("[osc]\nport = 1\n")  # the unnamed daemon's, and of no use
    with until_the_block_ends(new):
        assert f"no configuration of its own for 'new', so the defaults hold: it would be {file}" in new.log
        assert new.port not in (1, DEFAULT_PORT)


@pytest.mark.parametrize("name", ["two words", "", "x" * 33, "../deep"])
def test_what_is_no_name_starts_nothing(machine: Path, name: str) -> None:
    refused = daemon_of(machine, "refused")
    refused.words = ("--name", name)
    refused.start()
    assert refused.process is not None and refused.process.wait(HANG_S) == 1
    assert "is no name for a daemon: it takes 1 to 32 letters" in refused.log
    assert len(refused.log.splitlines()) == 1
    assert not (machine / "state").exists() and not (machine / "run").exists()
