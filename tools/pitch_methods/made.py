"""Vowels made of harmonics of a moving f0 through formants, spoken, shouted, whispered, laughed and sung: f0 is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pitch_methods.clip import FRAME_SAMPLES, RATE_HZ, Clip, Floats

VOWELS = ((700, 1200, 2600, 3500), (300, 2200, 2900, 3500), (450, 850, 2500, 3500))


def voiced_sound(
    f0_hz: Floats, level: Floats, *, tilt: float = 1.0, breath: float = 0.01, vowel: int = 0, seed: int = 0
) -> Floats:
    """Return a vowel of f0 (Hz) and level (0..1) a sample. tilt: harmonics fall with 1 / k^tilt."""
    random = np.random.default_rng(seed)
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    sound = np.zeros(len(f0_hz))
    for k in range(1, int(7500 / max(50.0, f0_hz.min())) + 1):
        hz = k * f0_hz
        gain = formant_gain(hz, vowel) / k**tilt
        sound += np.where(hz < 7500, gain, 0.0) * np.sin(phase * k)
    sound /= max(1e-9, np.sqrt(np.mean(np.square(sound)))) / 0.15
    return level * (sound + breath * random.standard_normal(len(sound)))


def formant_gain(hz: Floats, vowel: int) -> Floats:
    return np.sum([1 / (1 + ((hz - centre) / (40 + 0.06 * centre)) ** 2) for centre in VOWELS[vowel]], axis=0) + 0.02


def whispered(seconds: float, seed: int) -> Floats:
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(int(seconds * RATE_HZ)))
    hz = np.fft.rfftfreq(int(seconds * RATE_HZ), 1 / RATE_HZ)
    sound = np.fft.irfft(spectrum * formant_gain(hz, seed % 3))
    return 0.05 * sound / np.sqrt(np.mean(np.square(sound)))


def clip(kind: str, sound: Floats, f0_hz: Floats, level: Floats, snr_db: float | None = None, seed: int = 0) -> Clip:
    """Make a clip of samples with the truth of each frame; where the level changes near a frame, nobody knows."""
    if snr_db is not None:
        noise = np.random.default_rng(seed + 99).standard_normal(len(sound))
        sound = sound + noise * np.sqrt(np.mean(np.square(sound[level > 0.5]))) * 10 ** (-snr_db / 20)
    at = np.arange(len(sound) // FRAME_SAMPLES) * FRAME_SAMPLES
    truth = np.where(level[at] > 0.1, f0_hz[at], 0.0)
    near = 3 * FRAME_SAMPLES
    for frame, start in enumerate(at):
        around = level[max(0, start - near) : start + near]
        if around.min() <= 0.1 < around.max():
            truth[frame] = np.nan
    return Clip(kind, np.clip(sound, -1, 1).astype(np.float32), truth)


def made_clips() -> Iterator[Clip]:
    t = np.arange(4 * RATE_HZ) / RATE_HZ
    phrases = np.clip(8 * (np.sin(2 * np.pi * 0.7 * t) + 0.5), 0, 1)
    for number, base in enumerate((95.0, 180.0, 260.0)):
        spoken = base * 2 ** ((3 * np.sin(2 * np.pi * 1.1 * t) + 1.5 * np.sin(2 * np.pi * 2.7 * t + 1)) / 12)
        sound = voiced_sound(spoken, phrases, vowel=number, seed=number)
        yield clip("spoken", sound, spoken, phrases)
        for snr_db in (10.0, 0.0):
            yield clip(f"spoken, noise {snr_db:g} dB below", sound, spoken, phrases, snr_db, number)
    for number, (low, high) in enumerate(((70.0, 350.0), (150.0, 900.0))):
        glide = low * (high / low) ** (0.5 - 0.5 * np.cos(2 * np.pi * t / 4))
        yield clip("glides", voiced_sound(glide, np.ones_like(t), vowel=number), glide, np.ones_like(t))
    for number, base in enumerate((280.0, 420.0)):
        shout = base * 2 ** (
            (4 * np.sin(2 * np.pi * 0.9 * t) + np.random.default_rng(7).standard_normal(len(t)).cumsum() / 400) / 12
        )
        yield clip("shouted", np.tanh(4 * voiced_sound(shout, phrases, tilt=0.3, breath=0.1, vowel=number)) / 2, shout, phrases)
    for number in range(2):
        yield clip("whispered", whispered(4, number), np.zeros_like(t), np.zeros_like(t))
    for number, base in enumerate((220.0, 420.0)):
        within = (t * 5) % 1.0
        laugh, bursts = base * 2 ** (-7 * within / 12), np.where(within < 0.45, np.clip(30 * within, 0, 1), 0.0)
        sound = voiced_sound(laugh, bursts, breath=0.25, vowel=2 * number, seed=number)
        yield clip("laughed", sound + 0.01 * np.random.default_rng(number).standard_normal(len(t)), laugh, bursts)
    notes = 2.0 ** (np.floor(t / 0.5) * np.array(3) / 12)
    for number, base in enumerate((110.0, 220.0)):
        sung = np.minimum(base * notes * (2 if number else 1), 800.0) * 2 ** (0.6 * np.sin(2 * np.pi * 5.5 * t) / 12)
        yield clip(
            "sung with vibrato, to 800 Hz", voiced_sound(sung, np.ones_like(t), vowel=number, seed=3), sung, np.ones_like(t)
        )
    creak = 62.0 * 2 ** (np.random.default_rng(5).standard_normal(len(t) // 200 + 1).repeat(200)[: len(t)] * 0.5 / 12)
    yield clip("creaky, 62 Hz", voiced_sound(creak, phrases, vowel=0), creak, phrases)
