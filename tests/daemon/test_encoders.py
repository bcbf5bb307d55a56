"""Voices of different encoders in one daemon, switched live, the built-in one among them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from rvcd.formats.checkpoint import load_tensors
from rvcd.nets.random_weights import write_encoder
from rvcd.nets.test_weights import ENCODER, ensure_test_weights
from rvcd.voices.builtin_paths import BUILT_IN_VOICE
from tests.daemon_process import running
from tests.transfer.server import serving, whole
from tests.waiting import HANG_S


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


def test_from_nothing_to_a_voice_of_ones_own_in_two_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = ensure_test_weights(tmp_path / "weights")
    torch.save(load_tensors(weights.encoder / "model.safetensors"), tmp_path / "encoder.pt")
    encoder = (tmp_path / "encoder.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "Anna.zip", "w") as archive:
        archive.write(weights.voice_v2, "Anna/Anna.pth")
        archive.write(weights.index_v2, "Anna/added_IVF8_Flat_nprobe_1_Anna_v2.index")
    home = tmp_path / "home"
    home.mkdir()
    config = f"""
[audio]
backend = "virtual"
[latency]
block_ms = 1000
deadline_ms = 1000
[models.sha256]
content_encoder = "{hashlib.sha256(encoder).hexdigest()}"
"""
    (tmp_path / "first.toml").write_text(config)
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    with serving() as web:
        web.serve("/lj1995/VoiceConversionWebUI/resolve/main/hubert_base.pt", whole(encoder))
        web.serve("/voices/Anna.zip", whole((tmp_path / "Anna.zip").read_bytes()))
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        for words in (["assets", "fetch"], ["voice", "import", web.url + "/voices/Anna.zip", "--allow-private"]):
            words = [sys.executable, "-m", "rvcd.cli", *words, "--config", str(tmp_path / "first.toml")]
            subprocess.run(words, check=True, capture_output=True, timeout=HANG_S)
    with running(tmp_path, config + "[models]\n", {"HOME": str(home)}) as daemon:
        stats = daemon.osc.until(lambda s: s.blocks > 3 and s.out_peak_dbfs > -60)
        assert stats.voice == "Anna"
