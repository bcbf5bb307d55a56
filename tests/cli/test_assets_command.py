"""`rvcd assets fetch` from the command line: what it says, where files go, that a failure is one line."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvcd.cli import main as cli
from tests.transfer.conftest import web
from tests.transfer.server import WebServer, sending, whole
from tests.waiting import HANG_S, eventually, signals_as_at_a_terminal

__all__ = ["web"]
ENCODER = b"an encoder of one's own " * 100
HUBERT = "/lj1995/VoiceConversionWebUI/resolve/e6d0c1a17da07c33557852f9dfa2bd44cc75737d/hubert_base.pt"


@pytest.fixture
def rvcd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Any]:
    """Returns (exit code, stdout, stderr). The home folder is new, and ENCODER is the encoder that is expected."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("RVCD_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "rvcd.toml"
    config.write_text(f'[models.sha256]\ncontent_encoder = "{hashlib.sha256(ENCODER).hexdigest()}"\n')

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rvcd", *words, "--config", str(config)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        shown = capsys.readouterr()
        return int(code or 0), shown.out, shown.err

    return call


def test_the_content_encoder_is_fetched_from_the_mirror_and_then_found(
    rvcd: Callable[..., Any], web: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.serve(HUBERT, whole(ENCODER))
    there = tmp_path / "home/.local/share/rvcd/models/hubert_base.pt"
    code, out, err = rvcd("assets", "fetch")
    assert (code, out) == (0, f"fetched   content-encoder: {there}\n")
    assert err == "getting hubert_base.pt, 0.0 MB\n"
    assert there.read_bytes() == ENCODER
    assert rvcd("assets", "fetch", "content-encoder") == (0, f"present   content-encoder: {there}\n", "")
    _, out, _ = rvcd("assets")
    assert f"models.content_encoder = {there}: verified" in out


def test_what_the_configuration_does_not_use_is_said(rvcd: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick/hubert_base.pt").write_bytes(ENCODER)
    config = tmp_path / "rvcd.toml"
    config.write_text(f'[models]\ncontent_encoder = "built-in"\n{config.read_text()}')
    code, out, _ = rvcd("assets", "fetch", "--from", str(tmp_path / "stick"))
    assert code == 0
    assert out.endswith("hubert_base.pt, but models.content_encoder is 'built-in': set it to \"auto\" to use this file\n")


def test_a_failure_is_one_line_and_leaves_nothing(
    rvcd: Callable[..., Any], web: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    code, out, err = rvcd("assets", "fetch")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1 and "does not exist (status 404)" in err
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
    code, _, err = rvcd("assets", "fetch", "rmpve")
    assert (code, err.startswith("rvcd: 'rmpve' is nothing that can be fetched; did you mean rmvpe?")) == (1, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_fetch_that_is_stopped_keeps_what_has_come_and_goes_on_with_it(
    rvcd: Callable[..., Any], web: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    enough = threading.Event()
    web.serve(HUBERT, sending(ENCODER, stop_at=1000, stall=enough))
    part = tmp_path / "home/.local/share/rvcd/models/.hubert_base.pt.part"
    words = [sys.executable, "-m", "rvcd.cli", "assets", "fetch", "--config", str(tmp_path / "rvcd.toml")]
    with signals_as_at_a_terminal(), subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as running:
        eventually(lambda: web.asked and part.exists())
        time.sleep(0.5)  # until it waits for more; earlier will do as well
        running.send_signal(number)
        _, err = running.communicate(timeout=HANG_S)
    enough.set()
    assert (running.returncode, "Traceback" in err) == (code, False)
    assert [path.name for path in part.parent.iterdir()] == [part.name]
    web.serve(HUBERT, whole(ENCODER))
    assert rvcd("assets", "fetch")[0] == 0
    assert [path.name for path in part.parent.iterdir()] == ["hubert_base.pt"]
