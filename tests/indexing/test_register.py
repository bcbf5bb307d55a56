"""A voice's register is measured of recordings, or said by hand, and stands in its voice.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rvcd.engine.pitch.register import Register
from rvcd.errors import AudioFileError
from rvcd.indexing.register import measure_register
from rvcd.voices.builtin_paths import BUILT_IN_FOLDER
from rvcd.voices.registry import VoiceRegistry, voice_of_file
from tests.cli.conftest import Rvcd, rvcd
from tests.support import FakePitch, speech_like

__all__ = ["rvcd"]
VOICE = Path(__file__).parent.parent / "data" / "parity" / "v2_40k_f0.pth"


def harmonics(path: Path, f0_hz: float, seconds: float = 4.0) -> Path:
    t = np.arange(round(seconds * 16000)) / 16000
    soundfile.write(path, 0.1 * sum(np.sin(2 * np.pi * k * f0_hz * t) / k for k in range(1, 10)), 16000)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "voices" / "Anna").mkdir(parents=True)
    shutil.copy(VOICE, tmp_path / "voices" / "Anna" / "Anna.pth")
    path = tmp_path / "rvcd.toml"
    path.write_text(f"[voices]\nfolders = ['{tmp_path / 'voices'}']\n")
    return path


def test_the_median_is_of_the_frames_that_are_voiced() -> None:
    register = Register(FakePitch(200.0))
    register.hear(speech_like(16000, 6.0))
    register.hear(np.zeros(160_000, np.float32))
    assert 2.0 < register.voiced_s < 6.0
    assert abs(1200 * np.log2(register.median_hz() / 200.0)) <= 10


def test_too_little_voiced_speech_has_no_register() -> None:
    register = Register(FakePitch())
    register.hear(speech_like(16000, 1.0))
    assert register.median_hz() == 0.0


@pytest.mark.parametrize("f0_hz", [95.0, 220.0, 400.0])
def test_a_recordings_register_is_its_pitch(f0_hz: float, tmp_path: Path) -> None:
    found, _ = measure_register([harmonics(tmp_path / "a.wav", f0_hz)])
    assert abs(1200 * np.log2(found / f0_hz)) < 20


def test_noise_and_missing_files_have_no_register(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).standard_normal(32000) * 0.1, 16000)
    with pytest.raises(AudioFileError, match=r"of voiced speech, and a register takes 2 s: .*none\.wav: there is no such file"):
        measure_register([tmp_path / "noise.wav", tmp_path / "none.wav"])


def test_the_command_measures_or_takes_a_register(rvcd: Rvcd, config: Path, tmp_path: Path) -> None:
    harmonics(tmp_path / "a.wav", 220.0)
    assert rvcd("voice", "register", "Anna", "--sample", tmp_path / "a.wav", "--config", config)[0] == 0
    assert abs(VoiceRegistry.scan([tmp_path / "voices"]).find("Anna").f0_median_hz - 220) < 3
    assert rvcd("voice", "register", "Anna", "--hz", "180.5", "--config", config)[0] == 0
    assert VoiceRegistry.scan([tmp_path / "voices"]).find("Anna").f0_median_hz == 180.5
    code, out, _ = rvcd("voice", "info", "Anna", "--config", config)
    assert code == 0 and "180.5 Hz" in out


@pytest.mark.parametrize(
    "options, sentence",
    [
        ((), "give one of the two"),
        (("--hz", "5000"), "within 50..1000 Hz"),
        (("--sample", "nothing.wav"), "nothing.wav: does not exist"),
    ],
)
def test_what_cannot_be_a_register_is_refused(
    options: tuple[str, ...], sentence: str, rvcd: Rvcd, config: Path, tmp_path: Path
) -> None:
    code, _, err = rvcd("voice", "register", "Anna", *options, "--config", config)
    assert code == 1 and sentence in err
    assert not (tmp_path / "voices" / "Anna" / "voice.toml").exists()


def test_an_import_measures_a_sample(rvcd: Rvcd, config: Path, tmp_path: Path) -> None:
    harmonics(tmp_path / "a.wav", 150.0)
    code, out, err = rvcd("voice", "import", VOICE, "--name", "Bert", "--sample", tmp_path / "a.wav", "--config", config)
    assert code == 0, err
    assert "register " in out
    assert abs(VoiceRegistry.scan([tmp_path / "voices"]).find("Bert").f0_median_hz - 150) < 3


def test_the_built_in_voices_register_is_that_of_its_own_recording() -> None:
    found, _ = measure_register([BUILT_IN_FOLDER / "target.flac"])
    assert voice_of_file(BUILT_IN_FOLDER / "built-in.pth").f0_median_hz == pytest.approx(found, rel=0.02)
