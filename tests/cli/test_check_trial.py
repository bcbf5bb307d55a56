"""Loading everything in a process of its own: what it finds, and whatever way it may end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from rvcd.cli.checks.finding import Finding, Level
from rvcd.cli.checks.trial import TrialRequest, trial_findings
from rvcd.rendering.trial import kernels_said, tried
from tests.support import PARITY

REQUEST = TrialRequest("rvcd.toml")


def ending(script: str, limit_s: float = 60.0) -> list[Finding]:
    return trial_findings(REQUEST, (sys.executable, "-c", script), limit_s)


def test_findings_come_as_they_were_said() -> None:
    script = "import json, sys; r = json.load(sys.stdin); print(json.dumps(['note', 'voice', r['config']]))"
    assert ending(script) == [Finding(Level.NOTE, "voice", "rvcd.toml")]


@pytest.mark.parametrize(
    "script, said",
    [
        ("import os; os.kill(os.getpid(), 11)", "ended by SIGSEGV; one of the model files or the index is damaged"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL; is there enough memory?"),
        ("raise ValueError('no')", "a fault of rvcd (ValueError: no); please report it"),
        ("print('chatter')", "ended with a fault of rvcd (it said nothing)"),
        ("pass", "ended with a fault of rvcd"),
    ],
)
def test_a_trial_that_ends_in_any_way_is_a_failure_and_a_sentence(script: str, said: str) -> None:
    (found,) = ending(script)
    assert found.level is Level.FAIL
    assert said in found.text


def test_what_was_found_before_a_crash_is_kept() -> None:
    script = "import os, json; print(json.dumps(['note', 'voice', 'first']), flush=True); os.kill(os.getpid(), 11)"
    assert [finding.level for finding in ending(script)] == [Level.NOTE, Level.FAIL]


def test_a_trial_that_never_ends_is_given_up() -> None:
    (found,) = ending("import time; time.sleep(600)", limit_s=0.3)
    assert "were not loaded after 0 s" in found.text


# ---- what it finds


def said(tmp_path: Path, voice: Path, index: Path | None = None, **request: str) -> list[tuple[str, str, str]]:
    config = tmp_path / "rvcd.toml"
    voices = f'folders = []\nvoice = "{voice}"\n' + (f'index = "{index}"\n' if index else "")
    config.write_text(f'[models]\ncontent_encoder = "test"\n[voices]\n{voices}')
    return list(tried({"config": str(config), "voice": "", "f0_method": "", "latency_preset": "", **request}))


@pytest.fixture
def test_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A voice of the test weights, whose encoder is there at once."""
    from rvcd.nets.test_weights import ensure_test_weights

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    return ensure_test_weights(tmp_path / "cache" / "rvcd").voice_v2


def test_a_whole_voice_converts(tmp_path: Path, test_voice: Path) -> None:
    kernels, found = said(tmp_path, test_voice)
    assert kernels[1] == "kernels"
    assert found[:2] == ("ok", "trial")
    assert "converts" in found[2]


def test_the_kernels_that_run_are_named() -> None:
    assert kernels_said("avx2") == ("ok", "kernels", "rvcd's own, with avx2")
    level, _, text = kernels_said("baseline")
    assert level == "note" and "RVCD_CPU" in text


def test_a_voice_of_other_units_fails(tmp_path: Path, test_voice: Path) -> None:
    ((level, topic, text),) = said(tmp_path, PARITY / "v2_40k_f0.pth")
    assert (level, topic) == ("fail", "voice")
    assert "does not go with the content encoder" in text


def test_a_voice_with_a_number_that_is_none_fails(tmp_path: Path, test_voice: Path) -> None:
    content = torch.load(test_voice, weights_only=True)
    key = next(key for key in content["weight"] if key.startswith("dec."))
    content["weight"][key].view(-1)[0] = float("nan")
    torch.save(content, tmp_path / "bad.pth")
    ((level, _, text),) = said(tmp_path, tmp_path / "bad.pth")
    assert level == "fail"
    assert f"tensor {key!r} holds NaN or infinity" in text


def test_an_index_that_cannot_serve_is_a_note(tmp_path: Path, test_voice: Path) -> None:
    index = tmp_path / "bad.index"
    index.write_bytes(b"IxF2" + bytes(20))
    (first, _, second) = said(tmp_path, test_voice, index)
    assert first[:2] == ("note", "voice")
    assert "runs without its index" in first[2]
    assert second[:2] == ("ok", "trial")


def test_the_resumed_pitch_method_is_tried(tmp_path: Path, test_voice: Path) -> None:
    ((level, topic, text),) = said(tmp_path, test_voice, f0_method="rmvpe")
    assert (level, topic) == ("fail", "pitch")
    assert "rmvpe needs its weights" in text


def test_the_program_answers_in_lines_of_json(tmp_path: Path, test_voice: Path) -> None:
    config = tmp_path / "rvcd.toml"
    config.write_text('[models]\ncontent_encoder = "test"\n')
    findings = trial_findings(TrialRequest(str(config)))
    assert [finding.topic for finding in findings] == ["kernels", "trial"]
    assert findings[1].level is Level.OK
