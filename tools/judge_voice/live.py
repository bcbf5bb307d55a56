"""The judged voice as a live stream, and what a listener hears of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from voice_config import JudgedVoice

from rvcd import Engine
from rvcd.config.settings import LATENCY_PRESETS, load_config
from rvcd.engine.pitch import PitchTrack, create_pitch_method
from rvcd.evaluation.conversion import read_clip
from rvcd.evaluation.judges import WordJudge
from rvcd.evaluation.measures import RATE_HZ, at_level, median_f0_hz, semitones_to, word_errors, words_of

Audio = NDArray[np.float32]
LIVE_RATE_HZ = 48_000


class Live:
    """One voice, for many streams with the blocks and the lookahead of the preset."""

    def __init__(self, judged: JudgedVoice) -> None:
        settings = load_config(judged.config)
        torch.set_num_threads(settings.engine.threads or 1)
        torch.set_flush_denormal(True)
        self._engine = Engine(judged.voice, config=judged.config)
        self._budget = LATENCY_PRESETS[settings.latency.named]
        self._pitch = create_pitch_method("swift")
        tracks = [self.track(read_clip(path)) for path in judged.targets]
        f0_hz, voiced = (np.concatenate([getattr(track, name) for track in tracks] or [[]]) for name in ("f0_hz", "voiced"))
        self._register_hz = median_f0_hz(f0_hz.astype(np.float32), voiced.astype(bool))

    @property
    def name(self) -> str:
        return self._engine.voice

    @property
    def rate_hz(self) -> int:
        """At which the voice itself makes sound."""
        return self._engine.rate_hz

    def track(self, audio_16k: Audio) -> PitchTrack:
        return self._pitch.estimate(audio_16k)

    def semitones_for(self, audio_16k: Audio) -> float:
        """Return the whole semitones that bring a person to the target's register, as `rvcd eval --pitch auto` does."""
        track = self.track(audio_16k)
        return float(semitones_to(median_f0_hz(track.f0_hz, track.voiced), self._register_hz))

    def convert(self, pieces: Iterable[Audio], semitones: float) -> list[Audio]:
        """Return the voice of each piece (samples at 16 kHz), all streamed one after the other: aligned, at LIVE_RATE_HZ."""
        stream = self._engine.stream(
            LIVE_RATE_HZ, block_ms=self._budget.block_ms, lookahead_ms=self._budget.lookahead_ms, params={"pitch": semitones}
        )
        heard = [soxr.resample(piece, RATE_HZ, LIVE_RATE_HZ).astype(np.float32) for piece in pieces]
        made = np.concatenate(list(stream.convert([np.concatenate(heard)])))
        return np.split(made, np.cumsum([len(piece) for piece in heard])[:-1])


def at_16k(audio: Audio) -> Audio:
    return np.asarray(soxr.resample(audio, LIVE_RATE_HZ, RATE_HZ), np.float32)


class Listener:
    """Whisper tiny counts word errors; base writes down what is said where no text lies beside a clip."""

    def __init__(self) -> None:
        self._tiny, self._base = WordJudge(threads=1), WordJudge(reference=True, threads=1)

    def said(self, audio_16k: Audio, clip: Path | None = None) -> list[str]:
        beside = clip.with_suffix(".txt") if clip else None
        return words_of(beside.read_text("utf-8") if beside and beside.is_file() else self._base.text(at_level(audio_16k)))

    def errors(self, said: list[str], audio_16k: Audio) -> int:
        return word_errors(said, words_of(self._tiny.text(at_level(audio_16k))))
