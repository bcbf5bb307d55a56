"""`rvcd render`: what it hands over, what it refuses, and how a batch ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rvcd.config.settings import Settings
from rvcd.params import VOICE_PARAMS
from tests.cli.machine import Machine
from tests.waiting import signals_as_at_a_terminal


def test_render_hands_over_what_was_asked(machine: Machine, rvcd: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.wav"
    source.touch()
    code, out, _ = rvcd(
        "render", source, tmp_path / "out.wav", "--voice", "anna", "--pitch", "-3", "--gain-out", "2.5", "--f0-method", "yin",
        "--autotune", "0.8", "--autotune-key", "bb", "--autotune-scale", "major",
    )  # fmt: skip
    assert code == 0
    assert machine.rendered == [
        {
            "source": source, "target": tmp_path / "out.wav", "voice": "anna", "index": "", "f0_method": "yin", "rate_hz": 0,
            "params": {"pitch": -3.0, "gain_out": 2.5, "autotune": 0.8, "autotune_key": 10.0, "autotune_scale": 1.0},
            "channels": "1", "loudness_lufs": None, "force": False,
            "pitch_mode": "",
        }
    ]  # fmt: skip
    assert out == f"{tmp_path / 'out.wav'}: 10.0 s, 40000 Hz, voice anna (5.0 x real time)\n"


def test_render_keeps_an_existing_file_unless_forced(machine: Machine, rvcd: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    source.touch()
    target.touch()
    code, _, err = rvcd("render", source, target)
    assert (code, err) == (1, f"rvcd: {target}: exists already; --force replaces it\n")
    assert rvcd("render", source, target, "--force")[0] == 0


def test_render_says_what_is_wrong_with_a_path(machine: Machine, rvcd: Any, tmp_path: Path) -> None:
    missing, folder, there = tmp_path / "missing.wav", tmp_path, tmp_path / "there.wav"
    there.touch()
    assert rvcd("render", missing, tmp_path / "out.wav")[2] == f"rvcd: {missing}: does not exist; check the path\n"
    assert rvcd("render", "/dev/null", tmp_path / "out.wav")[2] == "rvcd: /dev/null: is no audio file\n"
    assert rvcd("render", folder, there)[2].startswith(f"rvcd: {there}: is a file; several inputs, a folder or a pattern are")
    assert machine.rendered == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "2"], "--jobs: is for many files, and out.wav is one; write into a folder (out.wav/) to use it"),
        (["--resume"], "--resume: is for many files"),
        (["--json"], "--json: is for many files"),
        (["--report", "r.json"], "--report: is for many files"),
        (["--format", "flac"], "--format flac: out.wav has another extension"),
    ],
)
def test_what_is_for_many_files_is_refused_for_one(machine: Machine, rvcd: Any, words: list[str], said: str) -> None:
    code, _, err = rvcd("render", __file__, "out.wav", *words)
    assert code == 1 and err.startswith(f"rvcd: {said}") and machine.rendered == []


def test_render_needs_a_place_to_write_to(rvcd: Any) -> None:
    code, _, err = rvcd("render", "a.wav")
    assert code == 2 and "name what to convert, and then the file or folder to write" in err


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Batches that were asked for, instead of being run; each has a file that is done and one that failed."""
    import rvcd.rendering.batch as module
    from rvcd.rendering.messages import Levels, Rendered
    from rvcd.rendering.report import BatchReport, Row, Status

    asked: list[Any] = []

    def run_batch(settings: Settings, request: Any, watcher: Any) -> BatchReport:
        asked.append(request)
        made = Rendered("anna", 40000, 1, 3.0, 1.0, 1.5, Levels(-1.0, -18.0, 7), Levels(None, None, 0), ("a note",))
        rows = (Row("a.wav", "out/a.wav", Status.DONE, rendered=made), Row("b.wav", "", Status.FAILED, "b.wav: is bad"))
        watcher.begins(2, 1)
        watcher.file_begins(0, "a.wav")
        watcher.file_advances(0, 0.5)
        for number, row in enumerate(rows):
            watcher.file_ends(number, row)
        watcher.says("in: something")
        report = BatchReport(rows, 2.0, 1, "anna", "hash")
        if request.jobs == 9:
            raise module.Interrupted(signal.SIGTERM, report)
        return report

    monkeypatch.setattr(module, "run_batch", run_batch)
    return asked


@pytest.mark.parametrize(
    "words", [["in", "out"], ["a.wav", "out/"], ["a.wav", "b.wav", "out"], ["in/*.wav", "out"], ["a.wav", "in"]]
)
def test_several_inputs_a_folder_or_a_pattern_are_a_batch(
    machine: Machine, rvcd: Any, batches: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    code, out, err = rvcd("render", *words, "--pitch", "2", "--format", "FLAC", "--resume", "--loudness", "-16")
    (request,) = batches
    assert (request.inputs, request.out) == (tuple(words[:-1]), Path(words[-1])) and machine.rendered == []
    assert (request.params, request.format, request.resume, request.loudness_lufs, request.jobs) == (
        {"pitch": 2.0}, "flac", True, -16.0, 0,
    )  # fmt: skip
    assert code == 1, "a file failed"
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[1] == ["a.wav", "done", "3.0", "2.0 x", "-", "7, 0", "-", "a note"]
    assert rows[2][1::6] == ["failed", "is bad"]
    assert rows[3] == ["1 done, 1 failed: 3.0 s of audio in 2.0 s (1.5 x real time), 1 worker(s), voice anna"]
    assert err.splitlines() == [
        "1 of 2: done: out/a.wav (3.0 s, 2.0 x real time)", "2 of 2: failed: b.wav: is bad", "in: something",
    ]  # fmt: skip


def test_a_batch_prints_json_and_ends_as_its_signal_says(machine: Machine, rvcd: Any, batches: list[Any], tmp_path: Path) -> None:
    code, out, err = rvcd("render", tmp_path, tmp_path / "out", "--json", "--jobs", "9")
    assert json.loads(out)["files"][1]["error"] == "b.wav: is bad"
    assert code == 128 + signal.SIGTERM and err.endswith("rvcd: interrupted; the same command with --resume goes on\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_render_that_is_told_to_end_cleans_up_first(
    machine: Machine, rvcd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    part = tmp_path / "out.wav.part"

    def interrupted(*_: Any) -> None:
        part.touch()
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            part.unlink()

    monkeypatch.setattr(sys.modules["rvcd.rendering.file"], "render_file", interrupted)
    with signals_as_at_a_terminal():
        before = signal.getsignal(number)
        assert rvcd("render", __file__, tmp_path / "out.wav")[0] == 128 + number
        assert not part.exists() and signal.getsignal(number) == before


def test_render_offers_every_parameter(rvcd: Any) -> None:
    _, out, _ = rvcd("render", "--help")
    for param in VOICE_PARAMS:
        assert f"--{param.name.replace('_', '-')}"[:14] in out
