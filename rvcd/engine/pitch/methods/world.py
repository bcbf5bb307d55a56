"""Harvest and DIO of the WORLD vocoder (pyworld), both on the 10 ms grid that starts at sample 0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module, metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from rvcd.engine.pitch.methods.imports import stand_ins
from rvcd.engine.pitch.methods.periodicity import drop_aperiodic
from rvcd.engine.pitch.track import (
    ANALYSIS_RATE_HZ,
    F0_MAX_HZ,
    F0_MIN_HZ,
    FRAME_SAMPLES,
    FloatArray,
    PitchTrack,
    clean_audio,
    settle,
)
from rvcd.errors import MissingExtraError

_FRAME_MS = 10.0
_MIN_SAMPLES = 1280
"""Four periods of the lowest pitch; shorter audio is unvoiced."""


def load_package(method: str) -> Any:
    """Import pyworld. Raises MissingExtraError without it; method: named there."""
    # pyworld 0.3.5 asks pkg_resources for its own version; setuptools 82 removed that module.
    try:
        with stand_ins(pkg_resources={"get_distribution": metadata.distribution}):
            return import_module("pyworld")
    except ImportError as error:
        raise MissingExtraError(f"f0 method {method} cannot be loaded ({error}); run: pip install pyworld") from None


class _World(ABC):
    """What the two methods of pyworld share. Subclasses name themselves and turn audio that is worth it into a track."""

    name: str
    context_frames = 40
    lookahead_frames = 20
    grid_frames = 1
    step_frames = 1

    def __init__(self) -> None:
        """Raises MissingExtraError without pyworld."""
        self._world = load_package(self.name)

    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        """See PitchMethod."""
        audio = clean_audio(audio_16k)
        if len(audio) < _MIN_SAMPLES or not audio.any():
            return PitchTrack.unvoiced(len(audio) // FRAME_SAMPLES)
        f0_hz = self._f0_hz(audio.astype(np.float64))
        return self._checked(settle(f0_hz, f0_hz > 0, audio), audio)

    @abstractmethod
    def _f0_hz(self, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return f0 of every 10 ms, 0 where unvoiced."""

    def _checked(self, track: PitchTrack, audio: FloatArray) -> PitchTrack:
        return track


class HarvestPitch(_World):
    """Harvest (Morise 2017): slow, smooth, voices more frames than the others."""

    name = "harvest"

    def _f0_hz(self, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        f0_hz, _ = self._world.harvest(samples, ANALYSIS_RATE_HZ, f0_floor=F0_MIN_HZ, f0_ceil=F0_MAX_HZ, frame_period=_FRAME_MS)
        return np.asarray(f0_hz)

    def _checked(self, track: PitchTrack, audio: FloatArray) -> PitchTrack:
        return drop_aperiodic(track, audio)


class DioPitch(_World):
    """DIO (Morise 2010) refined by StoneMask: fast, needs clean audio."""

    name = "dio"

    def _f0_hz(self, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        coarse, times = self._world.dio(samples, ANALYSIS_RATE_HZ, f0_floor=F0_MIN_HZ, f0_ceil=F0_MAX_HZ, frame_period=_FRAME_MS)
        return np.asarray(self._world.stonemask(samples, coarse, times, ANALYSIS_RATE_HZ))
