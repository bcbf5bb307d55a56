"""The voice that comes with rvcd, on whatever a microphone may bring: words, silence, noise, and what is no speech at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from rvcd.audio.configured import DEMO_SPEECH
from rvcd.config.settings import BUILT_IN, load_config, parse_config
from rvcd.evaluation.conversion import RATE_HZ, Conversion
from rvcd.evaluation.measures import pitch_agreement
from rvcd.params import Snapshot
from rvcd.rendering.file import RenderRequest, render_file
from rvcd.voices.builtin_paths import BUILT_IN_FOLDER, BUILT_IN_VOICE
from rvcd.voices.configured import named_voice
from tests.daemon_process import running

SECONDS = 2.0
T = np.arange(round(RATE_HZ * SECONDS)) / RATE_HZ


@pytest.fixture(scope="module")
def conversion():
    # At the stream's own rate nothing is resampled behind the limiter.
    config = {
        "models": {"content_encoder": BUILT_IN},
        "latency": {"preset": "low"},
        "engine": {"threads": 1},
        "audio": {"rate_hz": RATE_HZ},
    }
    settings = parse_config(config, Path("test.toml"))
    voice = named_voice(settings, "", "")
    assert voice is not None
    yield Conversion(settings, voice, "low", "swift")
    torch.set_flush_denormal(False)


def speech(seconds: float = SECONDS) -> np.ndarray:
    audio, rate_hz = soundfile.read(DEMO_SPEECH, dtype="float32")
    assert rate_hz == RATE_HZ
    return audio[: round(seconds * RATE_HZ)]


def sung(f0_hz: float) -> np.ndarray:
    vibrato = np.cumsum(1 + 0.02 * np.sin(2 * np.pi * 5.5 * T)) / RATE_HZ
    return sum(np.sin(2 * np.pi * f0_hz * k * vibrato) / k for k in range(1, int(7000 / f0_hz)))


def level_dbfs(audio: np.ndarray) -> float:
    return 20 * np.log10(np.sqrt(np.mean(np.square(audio, dtype=np.float64))) + 1e-12)


NOISE = np.random.default_rng(1).standard_normal(len(T))
WEIRD = {
    "clipped": np.clip(8 * speech(), -1, 1),
    "with an offset": 0.3 + 0.3 * speech(),
    "shouted": np.clip(speech() * 2.5, -1, 1),
    "whispered": 0.05 * NOISE * (np.sin(2 * np.pi * 1.5 * T) > -0.3),
    "sung at 600 Hz": 0.2 * sung(600),
    "over a bed of music": speech() + 0.1 * (sung(220) + sung(277) + sung(330)) / 3,
    "a full-scale square": np.sign(np.sin(2 * np.pi * 50 * T)),
    "full-scale noise": np.clip(NOISE, -1, 1),
    "a click": np.eye(1, len(T), 9000)[0],
}


@pytest.mark.parametrize("name", WEIRD)
def test_whatever_comes_in_what_comes_out_is_finite_and_below_full_scale(conversion, name):
    made, _ = conversion.stream(WEIRD[name].astype(np.float32), Snapshot())
    assert np.isfinite(made).all() and np.abs(made).max() <= 1.0


def test_speech_without_treble_is_converted_too(conversion):
    spectrum = np.fft.rfft(speech())
    spectrum[round(len(spectrum) / 2) :] = 0
    narrow = np.fft.irfft(spectrum).astype(np.float32)
    made, _ = conversion.stream(narrow, Snapshot())
    assert level_dbfs(made) == pytest.approx(level_dbfs(narrow), abs=6)


@pytest.mark.parametrize("floor_dbfs", [-120.0, -80.0, -55.0])
def test_silence_stays_silent_over_any_noise_floor_of_a_quiet_room(conversion, floor_dbfs):
    made, _ = conversion.stream((NOISE * 10 ** (floor_dbfs / 20)).astype(np.float32), Snapshot())
    assert level_dbfs(made) < -60


def test_the_pitch_is_the_speaker_s_own_moved_as_asked(conversion):
    audio = speech(4.0)
    made, _ = conversion.stream(audio, Snapshot(pitch=4.0))
    told, heard = conversion.pitch(audio), conversion.pitch(made)
    found = pitch_agreement(told.f0_hz * 2 ** (4 / 12), told.voiced, heard.f0_hz, heard.voiced)
    assert found.median_cents < 20 and found.agreement > 0.9


def test_a_file_is_converted_without_any_configuration(tmp_path):
    soundfile.write(tmp_path / "in.wav", speech(), RATE_HZ)
    result = render_file(load_config(None), RenderRequest(tmp_path / "in.wav", tmp_path / "out.wav"), print)
    out, rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert rate_hz == result.rate_hz == 24000
    assert len(out) == pytest.approx(SECONDS * rate_hz, abs=2) and level_dbfs(out) > -40


def test_a_daemon_without_models_of_its_users_speaks_with_it(tmp_path):
    patient = "[latency]\nblock_ms = 1000\ndeadline_ms = 1000\n"  # its network is of full size: a slow core holds it like this
    with running(tmp_path, f'[audio]\nbackend = "virtual"\n{patient}[models]\ncontent_encoder = ""\n') as daemon:
        stats = daemon.osc.until(lambda s: s.blocks > 3 and s.in_peak_dbfs > -40 and s.out_peak_dbfs > -40 and s.f0_hz > 50)
        assert (stats.voice, stats.voice_slot) == (BUILT_IN_VOICE, 1)


def test_it_fits_into_the_package():
    size = sum(path.stat().st_size for path in BUILT_IN_FOLDER.iterdir())
    assert size <= 16_000_000
