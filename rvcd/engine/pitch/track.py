"""What a pitch method answers: f0 and voicing, one value per 10 ms frame, and the pure functions over such a track.

f0 and voicing are two arrays. Nothing may decide voicing by `f0_hz == 0`: the zeros are only what is stored there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rvcd.geometry import ENCODER_HOP_SAMPLES, ENCODER_RATE_HZ

ANALYSIS_RATE_HZ = ENCODER_RATE_HZ
FRAME_SAMPLES = ENCODER_HOP_SAMPLES
"""Samples per 10 ms frame at the analysis rate. Frame t is centred at sample 160 * t."""
F0_MIN_HZ = 50.0
F0_MAX_HZ = 1100.0
COARSE_BINS = 256
SILENCE_RMS = 1e-4
"""-80 dBFS, mean removed: a frame whose surrounding 40 ms stay below this is never voiced, whatever a method says."""
_SURROUND_FRAMES = 2

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
AnyFloats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class PitchTrack:
    """f0_hz: (T,) float32, 50..1100 Hz, 0.0 stored where unvoiced. voiced: (T,) bool."""

    f0_hz: FloatArray
    voiced: BoolArray

    def __post_init__(self) -> None:
        if self.f0_hz.ndim != 1 or self.f0_hz.shape != self.voiced.shape:
            raise ValueError(f"f0_hz {self.f0_hz.shape} and voiced {self.voiced.shape} must be 1-D and of one length")

    def __len__(self) -> int:
        return len(self.f0_hz)

    def __getitem__(self, frames: slice) -> PitchTrack:
        return PitchTrack(self.f0_hz[frames], self.voiced[frames])

    @classmethod
    def unvoiced(cls, n_frames: int) -> PitchTrack:
        """Return n_frames frames without pitch."""
        return cls(np.zeros(n_frames, np.float32), np.zeros(n_frames, np.bool_))


class PitchMethod(Protocol):
    """One way to estimate f0. Stateless: the same audio always gives the same track.

    context_frames: past frames that change a value. lookahead_frames: future frames wanted before a value is settled.
    grid_frames: a stream must start its windows at multiples of this many frames to meet the method's own frame grid.
    step_frames: a window of frames, and the frame at its end, are computed as a whole multiple of this many. One of grid_frames
    and step_frames is 1.
    """

    @property
    def name(self) -> str: ...
    @property
    def context_frames(self) -> int: ...
    @property
    def lookahead_frames(self) -> int: ...
    @property
    def grid_frames(self) -> int: ...
    @property
    def step_frames(self) -> int: ...
    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        """Return the track of mono 16 kHz audio of any length: T = len(audio_16k) // 160 frames.

        Non-finite samples count as 0. Frames outside 50..1100 Hz, in silence or in too short a window are unvoiced.
        """
        ...


def coarse_pitch(f0_hz: AnyFloats, voiced: BoolArray) -> IntArray:
    """Return RVC's coarse pitch (T,) int64, 1..255: mel = 1127 ln(1 + f/700) spread over 50..1100 Hz; 1 where unvoiced."""
    mel = _mel(np.where(voiced, f0_hz, 0.0))
    low, high = _mel(np.array([F0_MIN_HZ, F0_MAX_HZ]))
    scaled = (mel - low) * (COARSE_BINS - 2) / (high - low) + 1.0
    return np.asarray(np.rint(np.clip(scaled, 1, COARSE_BINS - 1)), np.int64)


def _mel(f0_hz: AnyFloats) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(f0_hz, np.float64) / 700.0))


def transpose(f0_hz: AnyFloats, semitones: float | AnyFloats) -> FloatArray:
    """Return f0_hz * 2 ** (semitones / 12), float32. semitones: one number, or one per frame."""
    return np.asarray(f0_hz * np.exp2(np.asarray(semitones, np.float64) / 12.0), dtype=np.float32)


def fill_unvoiced(track: PitchTrack) -> PitchTrack:
    """Return a fully voiced track: f0 interpolated (linear in Hz, ends held) through unvoiced frames, as upstream does in 2026.

    It is for the synthesis only: `protect` needs the original's voicing. Without any voiced frame the track comes back as it is.
    """
    known = np.flatnonzero(track.voiced)
    if not len(known):
        return track
    filled = np.interp(np.arange(len(track)), known, track.f0_hz[known]).astype(np.float32)
    return PitchTrack(filled, np.ones(len(track), np.bool_))


def clean_audio(audio_16k: npt.ArrayLike) -> FloatArray:
    """Return audio as contiguous (N,) float32 with non-finite samples set to 0. Raises ValueError for other shapes."""
    audio = np.ascontiguousarray(audio_16k, dtype=np.float32)
    if audio.ndim != 1:
        raise ValueError(f"pitch methods take mono audio of one dimension, not {audio.shape}")
    return audio if np.isfinite(audio).all() else np.where(np.isfinite(audio), audio, np.float32(0))


def settle(f0_hz: npt.ArrayLike, voiced: npt.ArrayLike, audio: FloatArray) -> PitchTrack:
    """Return the track of len(audio) // 160 frames that every method hands out.

    Cut or padded (unvoiced) to length; not finite, outside 50..1100 Hz or in silence means unvoiced.
    """
    n_frames = len(audio) // FRAME_SAMPLES
    f0 = np.zeros(n_frames, np.float64)
    heard = np.zeros(n_frames, np.bool_)
    given = np.asarray(f0_hz, np.float64)[:n_frames]
    f0[: len(given)] = given
    heard[: len(given)] = np.asarray(voiced, np.bool_)[:n_frames]
    with np.errstate(invalid="ignore"):
        heard &= np.isfinite(f0) & (f0 >= F0_MIN_HZ) & (f0 <= F0_MAX_HZ)
    heard &= _surrounding_rms(audio, n_frames) >= SILENCE_RMS
    return PitchTrack(np.where(heard, f0, 0.0).astype(np.float32), heard)


def to_frame_grid(
    times_samples: npt.NDArray[np.float64], f0_hz: npt.NDArray[np.float64], voiced: BoolArray, n_frames: int
) -> tuple[npt.NDArray[np.float64], BoolArray]:
    """Move a track from its own frame centres (ascending sample positions) to the 10 ms grid.

    Voicing of the nearest frame; f0 interpolated in the log domain where both neighbours are voiced, else the nearest frame's.
    """
    if not len(times_samples):
        return np.zeros(n_frames), np.zeros(n_frames, np.bool_)
    grid = np.arange(n_frames, dtype=np.float64) * FRAME_SAMPLES
    right = np.clip(np.searchsorted(times_samples, grid, side="right"), 1, max(len(times_samples) - 1, 1))
    right = np.minimum(right, len(times_samples) - 1)
    left = np.maximum(right - 1, 0)
    span = np.maximum(times_samples[right] - times_samples[left], 1e-9)
    weight = np.clip((grid - times_samples[left]) / span, 0.0, 1.0)
    nearest = np.where(weight < 0.5, left, right)
    log_f0 = np.log(np.where(voiced & (f0_hz > 0), f0_hz, 1.0))
    between = np.exp((1.0 - weight) * log_f0[left] + weight * log_f0[right])
    both = voiced[left] & voiced[right]
    return np.where(both, between, f0_hz[nearest]), voiced[nearest]


def _surrounding_rms(audio: FloatArray, n_frames: int) -> npt.NDArray[np.float64]:
    """Return (T,): RMS, mean removed, of the samples within 20 ms of each frame's centre (fewer at the ends)."""
    frames = audio[: n_frames * FRAME_SAMPLES].reshape(n_frames, FRAME_SAMPLES).astype(np.float64)
    total = np.concatenate(([0.0], np.cumsum(frames.sum(axis=1))))
    squares = np.concatenate(([0.0], np.cumsum(np.square(frames).sum(axis=1))))
    index = np.arange(n_frames)
    low, high = np.maximum(index - _SURROUND_FRAMES, 0), np.minimum(index + _SURROUND_FRAMES, n_frames)
    count = (high - low) * FRAME_SAMPLES
    mean = (total[high] - total[low]) / count
    return np.asarray(np.sqrt(np.maximum((squares[high] - squares[low]) / count - mean * mean, 0.0)))
