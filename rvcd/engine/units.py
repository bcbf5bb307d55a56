"""Content units over a bounded window of the newest audio."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.dsp.track import Track
from rvcd.geometry import ENCODER_HOP_SAMPLES, FRAMES_PER_UNIT, StreamGeometry

RECEPTIVE_FIELD_SAMPLES = 400
"""Audio one unit is computed from, at 16 kHz."""
UNIT_HOP_SAMPLES = ENCODER_HOP_SAMPLES * FRAMES_PER_UNIT


STATISTICS_MEMORY_S = 10.0
"""How long the front end's norm remembers: longer than any pause, short enough for another speaker or microphone."""


class ContentEncoder(Protocol):
    """What the engine needs of rvcd.models.contentvec.ContentEncoder."""

    def start_front_end(self, memory_s: float) -> Any:
        """Return what a stream of front_end() calls carries."""
        ...

    def front_end(self, audio_16k: Tensor, state: Any = None) -> Tensor:
        """(1, samples) -> features (1, floor((samples - 400) / 320) + 1, channels)."""
        ...

    def units_of(self, features: Tensor, *, unit_width: int, first: int = 0) -> Tensor:
        """(1, N, channels) -> the rows from `first` on, (1, N - first, unit_width)."""
        ...

    def units(self, audio_16k: Tensor, *, unit_width: int) -> Tensor:
        """Both in one: (B, samples) -> (B, floor((samples - 400) / 320) + 1, unit_width)."""
        ...


class UnitWindow:
    """Keeps the window's audio and features and turns them into one row a frame, each unit twice, as RVC does.

    The front end's features depend on 25 ms of audio each and are made once; the transformer sees the whole window every time.
    """

    def __init__(self, encoder: ContentEncoder, geometry: StreamGeometry, device: torch.device) -> None:
        self.encoder, self.geometry, self.device = encoder, geometry, device
        self._audio = Track((geometry.window_frames + geometry.block_frames) * ENCODER_HOP_SAMPLES)
        self.reset()

    def reset(self) -> None:
        self._audio.reset()
        self._front_end = self.encoder.start_front_end(STATISTICS_MEMORY_S)
        self._features: Tensor | None = None
        self._first_unit = self._end_unit = 0

    def push(self, audio_16k: NDArray[np.float32]) -> None:
        """Take the newest audio, at 16 kHz."""
        self._audio.append(audio_16k)

    @property
    def first_frame(self) -> int:
        """Number of the first frame whose audio is still kept."""
        return max(0, -(-(self._audio.end - self._audio.capacity) // ENCODER_HOP_SAMPLES))

    def audio_since(self, frame: int) -> NDArray[np.float32]:
        """Return the kept audio from the start of a frame on."""
        return np.asarray(self._audio.rows(frame * ENCODER_HOP_SAMPLES, self._audio.end), dtype=np.float32)

    def per_frame(self, first_frame: int, end_frame: int, unit_width: int) -> Tensor:
        """Return rows (end_frame - first_frame, unit_width) for frames of the window that ends with end_frame.

        first_frame and end_frame are even. The newest frames, whose audio is not all here yet, repeat the last full unit:
        they lie in the lookahead and are computed again.
        """
        window_first = max(0, end_frame - self.geometry.window_frames) // FRAMES_PER_UNIT
        features = self._features_from(window_first)
        # At least one row: the newest frames of a stream's first blocks may all lie in a unit that is not complete.
        first = min(first_frame // FRAMES_PER_UNIT - window_first, features.shape[1] - 1)
        units = self.encoder.units_of(features, unit_width=unit_width, first=first)[0]
        wanted = (end_frame - first_frame) // FRAMES_PER_UNIT
        if len(units) < wanted:
            units = torch.cat((units, units[-1:].expand(wanted - len(units), -1)))
        units = units[len(units) - wanted :]
        return units.repeat_interleave(FRAMES_PER_UNIT, dim=0)

    def _features_from(self, first_unit: int) -> Tensor:
        """Return the features (1, N, channels) of all full units from first_unit on, making those not made yet."""
        end_unit = (self._audio.end - RECEPTIVE_FIELD_SAMPLES) // UNIT_HOP_SAMPLES + 1
        if end_unit <= first_unit:
            # The first block of a stream may be shorter than one unit.
            audio = self._audio.rows(first_unit * UNIT_HOP_SAMPLES, self._audio.end)
            return self.encoder.front_end(self._tensor(np.pad(audio, (0, RECEPTIVE_FIELD_SAMPLES - len(audio)))))
        start = max(self._end_unit, first_unit)
        if start < end_unit:
            samples = self._audio.rows(start * UNIT_HOP_SAMPLES, (end_unit - 1) * UNIT_HOP_SAMPLES + RECEPTIVE_FIELD_SAMPLES)
            fresh = self.encoder.front_end(self._tensor(samples), self._front_end)
            if self._features is not None and start == self._end_unit:
                kept = max(first_unit, self._first_unit)
                self._features = torch.cat((self._features[:, kept - self._first_unit :], fresh), dim=1)
                self._first_unit = kept
            else:
                self._features, self._first_unit = fresh, start
            self._end_unit = end_unit
        assert self._features is not None
        return self._features[:, first_unit - self._first_unit :]

    def _tensor(self, audio: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))[None].to(self.device)
