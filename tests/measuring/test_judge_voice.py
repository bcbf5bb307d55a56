"""What tools/judge_voice makes of what `rvcd eval` found: choosing, keeping, cutting. Nothing is converted here."""

from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from rvcd.evaluation.judging import Row
from rvcd.evaluation.verdict import summarise

FOLDER = Path(__file__).parents[2] / "tools" / "judge_voice"
ROW = Row("12-3-0001.flac", 5.0, 2.0, 0.82, 0.5, 0.8, 10, 1, 3, 4.0, 3.5, 2.4, 9.0, 0.98, 0.3)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import one of the scripts, as Python does when it is run from its folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None) or ""
        if path.startswith(str(FOLDER.parent)):
            del sys.modules[name]


def test_a_gate_that_is_missed_is_bold_and_clips_of_a_reader_count_as_one(tool: Any) -> None:
    rows = [ROW, ROW]
    verdict = summarise(rows, "v", "low", 40, 170)
    table = tool("judge").gates(verdict, summarise(rows, "v", "low", 40, 170, ["12", "12"]), 1, "hard")
    lines = {line.split("|")[1].strip(): line for line in table.splitlines()}
    assert "| 3.0 | 3.5 | **2.40** | 0.00 | nan |" in lines["naturalness, DistillMOS"]
    assert "| 15 | 6 | **20.0** |" in lines["above the source's, points"]
    assert "| 0.80 | 0.85 | 0.820 |" in lines["similarity to the target"] and "2 of 2" in lines["nearer to the target"]


def test_a_row_comes_back_from_json_with_what_is_unknown(tool: Any) -> None:
    found = {**asdict(ROW), "cents": None}
    row = tool("judge").row_of(json.loads(json.dumps(found)))
    assert math.isnan(row.cents) and row.clip == ROW.clip and row.mos == 2.4


def test_rows_are_kept_for_the_voice_that_made_them(tool: Any, tmp_path: Path) -> None:
    Results = tool("results").Results
    Results(tmp_path / "a.jsonl", "one").add("clip", {"words": 3})
    again, other = Results(tmp_path / "a.jsonl", "one"), Results(tmp_path / "a.jsonl", "two")
    assert "clip" in again and again.rows[0]["words"] == 3 and "clip" not in other and other.rows == []


def test_clips_are_shuffled_the_same_every_time_and_doubled_names_refused(tool: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for n in range(5):
            soundfile.write(tmp_path / folder / f"{folder}-{n}.wav", np.zeros(160), 16000)
    folders = [tmp_path / "a", tmp_path / "b"]
    clips = tool("clips").shuffled(folders)
    assert clips == tool("clips").shuffled(folders) and clips != sorted(clips) and len(clips) == 10
    (tmp_path / "b" / "a-1.wav").write_bytes((tmp_path / "a" / "a-1.wav").read_bytes())
    with pytest.raises(SystemExit, match=r"a-1\.wav: is in two of the folders"):
        tool("clips").shuffled(folders)


def test_a_clip_is_cut_in_its_quietest_moment_within_bounds(tool: Any) -> None:
    audio = np.ones(16000 * 6, np.float32)
    audio[16000:17600] = 0  # quieter, but too early
    audio[48000:50000] = 0.01
    assert 48000 <= tool("first_seconds").quietest(audio) <= 50000


def test_the_demo_speech_has_four_turns_of_which_examples_take_one(tool: Any) -> None:
    examples = tool("examples")
    turns = examples.turns(examples.read_clip(examples.DEMO))
    assert len(turns) == 4 and all(4 < len(turn) / 16000 < 8 for turn in turns)
