"""Voices of different encoders in one daemon, switched live, the built-in one among them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rvcd.nets.random_weights import write_encoder
from rvcd.nets.test_weights import ENCODER, ensure_test_weights
from rvcd.voices.builtin_paths import BUILT_IN_VOICE
from tests.daemon_process import running


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Three encoders: of "usual", of "own" by its file, of the built-in voice. "lost" names one that is not there."""
    weights = ensure_test_weights(tmp_path / "weights")
    write_encoder(tmp_path / "second", ENCODER, torch.Generator().manual_seed(5))
    voice = torch.load(weights.voice_v2, weights_only=True)
    for name, label in (("usual", {}), ("own", {"embedder_model": "my_hubert"}), ("lost", {"embedder_model": "spin-v2"})):
        (tmp_path / "voices").mkdir(exist_ok=True)
        torch.save({**voice, **label}, tmp_path / f"voices/{name}.pth")
    return f"""
[audio]
backend = "virtual"
[latency]
block_ms = 1000
deadline_ms = 1000
[models]
content_encoder = "{weights.encoder}"
[encoders]
my-hubert = "second"
[voices]
folders = ["voices"]
voice = "usual"
"""


def test_voices_of_different_encoders_are_switched_live_and_a_missing_encoder_leaves_the_voice_as_it_is(
    tmp_path: Path, config: str
) -> None:
    with running(tmp_path, config) as daemon:
        daemon.osc.until(lambda s: s.voice == "usual" and s.blocks > 3)
        for name in ("own", BUILT_IN_VOICE, "usual", BUILT_IN_VOICE, "own"):
            done = daemon.osc.do("/rvc/voice", name)
            assert done.address == "/rvc/done", done.params
            blocks = daemon.osc.until(lambda s, name=name: s.voice == name).blocks
            stats = daemon.osc.until(lambda s, blocks=blocks: s.blocks > blocks + 2)
            assert stats.voice == name and stats.failed_blocks == 0
        answer = daemon.osc.do("/rvc/voice", "lost")
        assert answer.address == "/rvc/fail"
        assert "content encoder 'spin-v2', which is not here: `rvcd assets fetch spin-v2` gets it" in answer.params[1]
        stats = daemon.osc.until(lambda s: s.voice == "own")
        assert stats.worker_restarts == 0


def test_an_encoder_that_is_fetched_while_the_daemon_runs_is_used_at_the_next_choice(tmp_path: Path, config: str) -> None:
    with running(tmp_path, config.replace("[encoders]", 'folder = "models"\n[encoders]')) as daemon:
        daemon.osc.until(lambda s: s.voice == "usual" and s.blocks > 3)
        assert daemon.osc.do("/rvc/voice", "lost").address == "/rvc/fail"
        (tmp_path / "models").mkdir()
        (tmp_path / "second").rename(tmp_path / "models/spin-v2")
        assert daemon.osc.do("/rvc/voice", "lost").address == "/rvc/done"
        daemon.osc.until(lambda s: s.voice == "lost")
