"""Content units over a bounded window of the newest audio."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.dsp.track import Track
from rvcd.geometry import ENCODER_HOP_SAMPLES, FRAMES_PER_UNIT, StreamGeometry

RECEPTIVE_FIELD_SAMPLES = 400
"""Audio one unit is computed from, at 16 kHz; units start every 320 samples."""


class ContentEncoder(Protocol):
    """What the engine needs of rvcd.models.contentvec.ContentEncoder."""

    def units(self, audio_16k: Tensor, *, unit_width: int) -> Tensor:
        """(B, samples) -> (B, floor((samples - 400) / 320) + 1, unit_width)."""
        ...


class UnitWindow:
    """Keeps the window's audio and turns it into one row a frame, each unit twice, as RVC does."""

    def __init__(self, encoder: ContentEncoder, geometry: StreamGeometry, device: torch.device) -> None:
        self.encoder, self.geometry, self.device = encoder, geometry, device
        self._audio = Track((geometry.window_frames + geometry.block_frames) * ENCODER_HOP_SAMPLES)

    def reset(self) -> None:
        self._audio.reset()

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
        window_first = max(0, end_frame - self.geometry.window_frames)
        start = window_first * ENCODER_HOP_SAMPLES
        end = min(self._audio.end, end_frame * ENCODER_HOP_SAMPLES)
        audio = self._audio.rows(start, end)
        if len(audio) < RECEPTIVE_FIELD_SAMPLES:
            audio = np.pad(audio, (0, RECEPTIVE_FIELD_SAMPLES - len(audio)))
        samples = torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))[None].to(self.device)
        units = self.encoder.units(samples, unit_width=unit_width)[0]
        wanted = (end_frame - window_first) // FRAMES_PER_UNIT
        if len(units) < wanted:
            units = torch.cat((units, units[-1:].expand(wanted - len(units), -1)))
        units = units[(first_frame - window_first) // FRAMES_PER_UNIT : wanted]
        return units.repeat_interleave(FRAMES_PER_UNIT, dim=0)
