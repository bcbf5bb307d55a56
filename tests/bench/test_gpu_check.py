"""tools/gpu_check.py: the script itself on a processor, and that no section takes another one with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import gpu_check

SCRIPT = Path(gpu_check.__file__)


def test_it_runs_without_a_card_and_tells_every_section(tmp_path: Path) -> None:
    """Its figures are the processor's; what needs a card is an error of its own case."""
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "gpu_check.json").read_text())
    assert (tmp_path / "gpu_check.txt").read_text() == done.stdout
    results = document["results"]
    assert list(results) == list(gpu_check.SECTIONS)
    exact = [fact for fact in results["parity"] if fact["precision"] == "fp32"]
    assert exact[0]["largest"] < 1e-6
    assert all(fact["total_ms"]["p50"] > 0 for fact in results["blocks"] if fact["precision"] != "fp16")
    assert "needs a GPU" in next(fact["error"] for fact in results["blocks"] if fact["precision"] == "fp16")
    assert any(sentence.startswith("a block of 40 ms takes ") for sentence in document["verdict"])
    assert document["verdict"][-1] == "2 of the cases failed"


def test_a_section_that_hangs_is_ended_and_what_it_told_before_is_kept() -> None:
    script = "import json, time; print(json.dumps({'found': 1}), flush=True); time.sleep(600)"
    assert gpu_check.run_section([sys.executable, "-c", script], 5.0) == [
        {"found": 1},
        {"error": "ended after 5 s, its time limit"},
    ]


def test_a_section_that_dies_says_how() -> None:
    script = "import sys; print('{\"found\": 1}'); print('no kernel image', file=sys.stderr); sys.exit(3)"
    found = gpu_check.run_section([sys.executable, "-c", script], 60.0)
    assert found == [{"found": 1}, {"error": "ended with status 3: no kernel image"}]


def test_all_sections_together_take_less_than_six_minutes() -> None:
    assert sum(limit_s for _, limit_s in gpu_check.SECTIONS.values()) <= 340


def test_the_verdict_names_what_missed_its_goal() -> None:
    block = {"block_ms": 40, "precision": "bf16", "graphs": True, "total_ms": {"p50": 5.0, "p95": 6.0, "p99": 7.0, "max": 9.0}}
    slow = {**block, "precision": "fp32", "total_ms": {"p50": 50.0, "p95": 60.0, "p99": 70.0, "max": 90.0}}
    apart = {"precision": "bf16", "graphs": True, "apart_db": 3.0, "largest": 0.5}
    said = gpu_check.verdict({"parity": [apart], "blocks": [block, slow], "busy": [slow, {"error": "gone"}]})
    assert said == [
        "parity bf16, graphs: 3.0 dB, TOO FAR from the processor",
        "a block of 40 ms takes 5.0 ms, p99 7.0 ms (bf16, graphs): the goal of 8 ms is reached",
        "beside a busy program (fp32, eager): p99 70.0 ms, TOO LATE",
        "shortest block that leaves 40 % of its time: 40 ms",
        "1 of the cases failed",
    ]


def test_a_bare_machine_without_wheels_is_told_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "NEEDED", ("json", "no_such_package"))
    with pytest.raises(SystemExit, match=r"lacks no_such_package; name a folder of wheels"):
        gpu_check.python_with(None, tmp_path)
    with pytest.raises(SystemExit, match=r"there is no wheel"):
        gpu_check.python_with(tmp_path, tmp_path)
