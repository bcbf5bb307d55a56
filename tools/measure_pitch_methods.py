"""Compares the pitch methods as a live stream hears them: errors, voicing, cost, lookahead. Prints tables in Markdown.

Usage: python tools/measure_pitch_methods.py [--methods swift,pm,...] [--preset balanced] [SPEECH...]

Without SPEECH, the truth is known: vowels are made at 16 kHz by harmonics of a moving f0 through formants. Each of SPEECH (files,
folders, quoted patterns) has no truth, so a method is held against the others: a frame counts where at least three quarters of
them say that it is voiced and the median of these is within 50 cents of at least three quarters of them, or where as many say
that it is unvoiced. What a method is right about alone counts against it.

gross: voiced in both, f0 off by more than 20 %. octave: of all voiced in both, those within a semitone of one or two octaves
off. missed: voiced frames called unvoiced. invented: unvoiced frames called voiced. cents: median deviation of the others.
cost: processor time for a second of audio on one thread, in blocks of the preset.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from rvcd.audio.files import read_audio
from rvcd.audio.found_files import find_audio
from rvcd.engine.pitch import FRAME_SAMPLES, PitchTrack, PitchTracker, create_pitch_method
from rvcd.errors import RvcdError

RATE_HZ, FRAMES_PER_SECOND = 16_000, 100
PRESETS = {"low": (4, 8), "balanced": (14, 8), "safe": (20, 10)}
"""Frames of a block, and those known behind a frame when it becomes final."""
METHODS = ("swift", "fcpe", "pm", "harvest", "dio", "yin")
VOWELS = ((700, 1200, 2600, 3500), (300, 2200, 2900, 3500), (450, 850, 2500, 3500))
GROSS = 0.2
AGREE_CENTS = 50.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """audio (samples,) at 16 kHz; f0_hz (frames,), 0 where unvoiced, NaN where nobody knows. kind: what it stands for."""

    kind: str
    audio: NDArray[np.float32]
    f0_hz: Floats


@dataclass
class Score:
    """Counts of frames, summed over clips; cents: deviations of frames without a gross error."""

    both: int = 0
    gross: int = 0
    octave: int = 0
    voiced: int = 0
    missed: int = 0
    unvoiced: int = 0
    invented: int = 0
    cents: list[float] | None = None

    def add(self, found: PitchTrack, truth: Floats) -> None:
        frames = min(len(found), len(truth))
        f0_hz, heard, truth = found.f0_hz[:frames].astype(float), found.voiced[:frames], truth[:frames]
        known = np.isfinite(truth)
        voiced, unvoiced = known & (truth > 0), known & (truth == 0)
        both = voiced & heard
        cents = 1200 * np.log2(f0_hz[both] / truth[both])
        gross = np.abs(f0_hz[both] / truth[both] - 1) > GROSS
        self.both += int(both.sum())
        self.gross += int(gross.sum())
        self.octave += int(((np.abs(np.abs(cents) - 1200) < 100) | (np.abs(np.abs(cents) - 2400) < 100)).sum())
        self.voiced += int(voiced.sum())
        self.missed += int((voiced & ~heard).sum())
        self.unvoiced += int(unvoiced.sum())
        self.invented += int((unvoiced & heard).sum())
        self.cents = [*(self.cents or []), *np.abs(cents[~gross]).tolist()]

    def row(self) -> str:
        def percent(part: int, of: int) -> str:
            return f"{100 * part / of:.1f} %" if of else "-"

        cents = f"{np.median(self.cents):.0f}" if self.cents else "-"
        return " | ".join((percent(self.gross, self.both), percent(self.octave, self.both), percent(self.missed, self.voiced),
                           percent(self.invented, self.unvoiced), cents))  # fmt: skip


# ---- what is listened to


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


def real_clips(inputs: list[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for file in find_audio(inputs, []):
        if not file.problem:
            audio, rate_hz = read_audio(file.source)
            yield file.source.name, np.asarray(soxr.resample(audio, rate_hz, RATE_HZ), np.float32)


# ---- listening


def streamed(method: object, audio: NDArray[np.float32], block_frames: int, settle_frames: int) -> tuple[PitchTrack, float]:
    """Return the final track of a stream, and the processor time in seconds."""
    tracker = PitchTracker(method, lookahead_frames=settle_frames, history_frames=block_frames + settle_frames)  # type: ignore[arg-type]
    size = block_frames * FRAME_SAMPLES
    padded = np.concatenate((audio, np.zeros(size + settle_frames * FRAME_SAMPLES, np.float32)))
    parts, began, spent = [], 0, 0.0
    for start in range(0, len(padded) - size + 1, size):
        before = time.process_time()
        tracker.update(padded[start : start + size])
        spent += time.process_time() - before
        parts.append(tracker.track(began, tracker.final_end_frame - began))
        began = tracker.final_end_frame
    frames = len(audio) // FRAME_SAMPLES
    f0_hz, voiced = (np.concatenate([getattr(part, name) for part in parts])[:frames] for name in ("f0_hz", "voiced"))
    return PitchTrack(f0_hz, voiced), spent


def agreement(others: list[PitchTrack]) -> Floats:
    """Return what the others agree on, (frames,): NaN where they do not."""
    heard = np.array([one.voiced for one in others])
    f0_hz = np.where(heard, np.array([one.f0_hz for one in others], float), np.nan)
    need = int(np.ceil(0.75 * len(others)))
    truth = np.full(heard.shape[1], np.nan)
    truth[(~heard).sum(axis=0) >= need] = 0.0
    for frame in np.flatnonzero(heard.sum(axis=0) >= need):
        middle = np.nanmedian(f0_hz[:, frame])
        if np.sum(np.abs(1200 * np.log2(f0_hz[:, frame] / middle)) < AGREE_CENTS) >= need:
            truth[frame] = middle
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--preset", default="balanced", choices=PRESETS)
    parser.add_argument("speech", nargs="*", metavar="SPEECH")
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = {}
    for name in options.methods.split(","):
        try:
            methods[name] = create_pitch_method(name)
        except RvcdError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    sizes = PRESETS[options.preset]
    scores: dict[tuple[str, str], Score] = {}
    spent, seconds = dict.fromkeys(methods, 0.0), 0.0
    clips: list[tuple[str, NDArray[np.float32], Floats | None]]
    if options.speech:
        clips = [("speech", audio, None) for _, audio in real_clips(options.speech)]
    else:
        clips = [(one.kind, one.audio, one.f0_hz) for one in made_clips()]
    for method in methods.values():
        streamed(method, clips[0][1][:RATE_HZ], *sizes)  # warm
    for number, (kind, audio, truth) in enumerate(clips):
        print(f"{number + 1} of {len(clips)}: {kind}", file=sys.stderr, flush=True)
        seconds += len(audio) / RATE_HZ
        tracks = {}
        for name, method in methods.items():
            tracks[name], used = streamed(method, audio, *sizes)
            spent[name] += used
        for name in methods:
            known = truth if truth is not None else agreement([track for other, track in tracks.items() if other != name])
            scores.setdefault((kind, name), Score()).add(tracks[name], known)
    print("| material | method | gross | octave | missed | invented | cents |\n|---|---|---|---|---|---|---|")
    for (kind, name), score in scores.items():
        print(f"| {kind} | {name} | {score.row()} |")
    print("\n| method | cost (ms for 1 s) | lookahead wanted |\n|---|---|---|")
    for name, method in methods.items():
        print(f"| {name} | {1000 * spent[name] / seconds:.0f} | {10 * method.lookahead_frames} ms |")


if __name__ == "__main__":
    main()
