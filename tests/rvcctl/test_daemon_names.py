"""Which daemon rvcctl means where several run: --name, RVCD_NAME, and `rvcctl list`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rvcctl.scripts import listing
from rvcctl.view import DaemonView
from rvcctl.widgets.state_banner import banner_of
from rvcd.protocol import Stats
from rvcd.running import Announcement
from tests.rvcctl.conftest import Complete, Run
from tests.rvcctl.fake_daemon import FakeDaemon, running_daemon
from tests.rvcctl.real_server import Served
from tests.rvcctl.test_watch import line_of, program
from tests.waiting import HANG_S, free_port


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon runs on this machine but those of the test."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(listing, "PATIENCE_S", HANG_S)


def told(name: str, port: int) -> Announcement:
    announcement = Announcement(name)
    announcement.listens("127.0.0.1", port)
    return announcement


def test_a_name_is_found_wherever_the_option_stands_and_in_the_environment(
    served: Served, rvcctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RVCD_PORT")
    with told("deep", served.port):
        assert rvcctl("--name", "deep", "set", "pitch", "-3") == (0, "pitch -3", "")
        assert rvcctl("get", "pitch", "--name=deep") == (0, "-3", "")
        assert rvcctl("preset", "--name", "deep", "save", "Own") == (0, "saved Own", "")
        assert rvcctl("status", "--name", "deep", "--json")[0] == 0
        monkeypatch.setenv("RVCD_NAME", "deep")
        monkeypatch.setenv("RVCD_PORT", str(free_port()))
        assert rvcctl("get", "pitch")[:2] == (0, "-3"), "a name in the environment comes before a port there"
        assert rvcctl("get", "pitch", "--port", str(served.port))[:2] == (0, "-3")
        monkeypatch.setenv("RVCD_NAME", "high")
        assert rvcctl("get", "pitch", "--port", str(served.port))[:2] == (0, "-3"), "an option comes before the environment"


def test_a_name_that_does_not_run_is_one_sentence_with_what_starts_it_and_what_runs(rvcctl: Run) -> None:
    expected = "rvcctl: no rvcd 'deep' runs here; start it with 'rvcd run --name deep'"
    assert rvcctl("get", "pitch", "--name", "deep") == (3, "", expected)
    with told("high", free_port()), told("", free_port()):
        code, _, error = rvcctl("get", "pitch", "--name", "deep")
        assert (code, error) == (3, f"{expected} (running here: high; choose one with --name)")
        code, _, error = rvcctl("get", "pitch", "--port", str(free_port()))
        assert code == 3 and error.endswith("start it with 'rvcd run' (running here: high; choose one with --name)")
    with Announcement("deep"):
        code, _, error = rvcctl("get", "pitch", "--name", "deep")
        assert (code, error) == (
            3, f"rvcctl: rvcd 'deep' (process {os.getpid()}) has just been started: it does not listen yet"
        )  # fmt: skip


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("--name", "a b"), "'a b' is no name for a daemon: it takes 1 to 32 letters without accents, digits, - and _"),
        (("--name", ""), "'' is no name for a daemon"),
        (("--name", "deep", "--port", "9000"), "--name is a daemon of this machine by itself: leave out --host and --port"),
        (("--name", "deep", "--host", "127.0.0.1"), "leave out --host and --port"),
    ],
)
def test_a_name_that_cannot_be_or_stands_beside_an_address_is_wrong_usage(
    rvcctl: Run, words: tuple[str, ...], complaint: str
) -> None:
    code, _, error = rvcctl("get", "pitch", *words)
    assert code == 2 and complaint in error


def test_daemons_are_listed_with_state_voice_and_whether_they_answer(rvcctl: Run, daemon: FakeDaemon) -> None:
    assert rvcctl("list") == (0, "", "rvcctl: no rvcd runs here")
    assert rvcctl("list", "--json") == (0, "[]", "")
    silent = free_port()
    with told("deep", daemon.port), told("dead", silent), Announcement("new"), told("", daemon.port):
        code, out, _ = rvcctl("list")
        pid = str(os.getpid())
        assert code == 0
        assert [line.split(maxsplit=4) for line in out.splitlines()] == [
            ["name", "pid", "port", "state", "voice"],
            ["-", pid, str(daemon.port), "live", "demo"],
            ["dead", pid, str(silent), "no", "answer  -"],
            ["deep", pid, str(daemon.port), "live", "demo"],
            ["new", pid, "-", "starting", "-"],
        ]
        entries = {entry["name"]: entry for entry in json.loads(rvcctl("list", "--json")[1])}
    common = {"pid": os.getpid(), "host": "127.0.0.1"}
    assert entries["deep"] == {
        **common, "name": "deep", "port": daemon.port, "answers": True, "state": "live", "voice": "demo"
    }  # fmt: skip
    assert entries["dead"] == {**common, "name": "dead", "port": silent, "answers": False, "state": "", "voice": ""}
    assert entries["new"] == {
        "pid": os.getpid(), "host": "", "name": "new", "port": 0, "answers": False, "state": "", "voice": ""
    }  # fmt: skip


def test_watching_a_name_goes_on_when_it_comes_back_on_another_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with program(free_port(), "watch", "voice", "--forever", "--changes", "--name", "deep") as process:
        for voice in ("first", "second"):
            with running_daemon() as daemon, told("deep", daemon.port):
                daemon.stats = Stats(voice=voice)
                assert line_of(process) == voice


def test_tab_completes_the_names_that_run(complete: Complete) -> None:
    with told("deep", 9001), told("high", 9002), told("", 9720):
        assert complete("status", "--name", "") == ["deep", "high"]
        assert complete("--name", "h") == ["high"]


def test_the_screen_shows_which_daemon_it_is(daemon: FakeDaemon) -> None:
    view = DaemonView("rvcd 'deep'", "deep")
    shown = banner_of(Stats(device="virtual"), connected=True, age_s=0.1, target=view.target, name=view.name)
    assert shown.details.startswith("deep · virtual")
    assert banner_of(Stats(device="virtual"), connected=True, age_s=0.1, target=view.target).details.startswith("virtual")
    assert "rvcd 'deep'" in banner_of(None, connected=False, age_s=None, target=view.target).details
