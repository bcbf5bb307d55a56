"""A source-filter decoder as a stream: what rvcd.nets.source_filter makes of the whole, however the frames are cut.

Same contract as `rvcd.engine.decoder`: frames come with provisional ones behind them, samples come `tail_samples` late. With at
least `exact_lookahead_frames` provisional frames they equal the offline ones to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.decoder import DecoderState
from rvcd.nets.envelope_converter import EnvelopeConverter
from rvcd.nets.frame_net import FrameNet
from rvcd.nets.packed import worth_packing
from rvcd.nets.rolling_buffer import Past
from rvcd.nets.source_filter import (
    FFT_SAMPLES,
    HOP_SAMPLES,
    MARGIN_SAMPLES,
    STEP_SAMPLES,
    TAIL_SAMPLES,
    Filters,
    SourceFilter,
    excite,
    filled_pitch,
    filtered_pieces,
    overlap_add,
)

OVERLAP_SAMPLES = FFT_SAMPLES - STEP_SAMPLES
"""What the pieces of a step add behind its last hop."""
PITCH_LOOKAHEAD_FRAMES = 2
"""The first samples of the frame after the newest belong to its last window, and their pitch may be that of the one after it."""


@dataclass(frozen=True)
class SourceFilterLayers:
    """The networks and the tables of one voice, which all its streams share."""

    convert: EnvelopeConverter
    net: FrameNet
    filters: Filters
    dtype: torch.dtype
    hop = HOP_SAMPLES
    source = None
    """It makes its own excitation, of the pitch that it is given."""

    @classmethod
    def of(cls, decoder: SourceFilter, precision: torch.dtype = torch.float32) -> SourceFilterLayers:
        """Prepare a decoder; its networks are packed in place where that is worth it."""
        if worth_packing(precision, str(decoder.net.enter.weight.device)):
            decoder.convert.net.pack(precision)
            decoder.net.pack(precision)
        return cls(decoder.convert, decoder.net, decoder.filters, precision)


@dataclass
class Neighbour:
    """The frame before the newest: its envelope (1, 1, C), its pitch as given and filled, whether it is voiced, (1, 1) each.

    started: whether there is one.
    """

    bands: Tensor
    f0_hz: Tensor
    filled_hz: Tensor
    voiced: Tensor
    started: bool = False


class SourceFilterDecoder:
    """A stateful source-filter decoder. One instance holds one stream. For the figures see StreamingDecoder."""

    tail_samples = TAIL_SAMPLES

    def __init__(self, layers: SourceFilterLayers) -> None:
        self.layers, self.hop = layers, layers.hop
        ahead = layers.convert.lookahead_frames + layers.net.sizes.lookahead_frames
        self.exact_lookahead_frames = max(ahead + 1, PITCH_LOOKAHEAD_FRAMES)
        self.lookahead_frames = self.exact_lookahead_frames
        device, bands = layers.net.mean.device, len(layers.net.mean)
        self.convert_pasts, self.pasts = layers.convert.start(), layers.net.start()
        self.sources = Past(MARGIN_SAMPLES, 1, zeros=True)
        self.before = Neighbour(
            torch.zeros((1, 1, bands), device=device), torch.zeros((1, 1), device=device), torch.zeros((1, 1), device=device),
            torch.zeros((1, 1), dtype=torch.bool, device=device),
        )  # fmt: skip
        self.phase_cycles = torch.zeros((1, 1), dtype=torch.float64, device=device)
        self.overlap = torch.zeros((1, OVERLAP_SAMPLES), device=device)
        self.state = DecoderState()

    def reset(self, first_frame: int = 0) -> None:
        """Forget everything. The next step's first frame is number first_frame of its stream; those before count as absent."""
        for past in (*self.convert_pasts.all(), *self.pasts, self.sources):
            past.reset()
        with torch.inference_mode():
            self.phase_cycles.zero_()
            self.overlap.zero_()
        self.before.started = False
        self.state = DecoderState(first_frame)

    @property
    def is_under_way(self) -> bool:
        """Whether the next step differs from those behind it in nothing but its inputs."""
        return self.before.started

    def tensors(self) -> list[Tensor | None]:
        """Where the stream is kept; None before the first step."""
        before, pasts = self.before, (*self.convert_pasts.all(), *self.pasts, self.sources)
        return [*(past.tensor for past in pasts), before.bands, before.f0_hz, before.filled_hz, before.voiced,
                self.phase_cycles, self.overlap]  # fmt: skip

    def noise_inputs(self, frames: int, total: int) -> list[NDArray[Any]]:
        """Return what run() is given beside the pitch: nothing here."""
        return []

    def run(self, z: Tensor, pitch: tuple[Tensor, Tensor, Tensor], frames: int, noise: list[Tensor]) -> Tensor:
        """Take `frames` new frames and return their hop * frames samples, tail_samples late. state.frames stays.

        z (1, C, frames + provisional): the envelope. pitch: f0_hz and voiced, (frames + provisional,), and noise of variance 1,
        (frames + provisional) * hop samples.
        """
        bands, (f0_hz, voiced, white) = z.transpose(1, 2), (values.reshape(1, -1) for values in pitch)
        bands = self.layers.convert(bands, f0_hz, voiced, self.convert_pasts, frames)
        said = self.layers.net(bands, f0_hz, voiced, self.pasts, frames)[:, :frames]
        before, end = self.before, bands.shape[1]
        if not before.started:
            for kept, first in ((before.bands, bands), (before.f0_hz, f0_hz), (before.voiced, voiced)):
                kept.copy_(first[:, :1])
        # One frame is seen behind the new ones, and the pitch of one more; at the end the last one stands for them.
        pitched = torch.cat((before.f0_hz, _with_next(f0_hz, frames, 2)), dim=1)
        around = torch.cat((before.voiced, _with_next(voiced, frames, 2)), dim=1)
        filled = filled_pitch(pitched, around)
        if not before.started:
            before.filled_hz.copy_(filled[:, :1])
        before.started = True
        sources = self._sources(torch.cat((before.filled_hz, filled), dim=1), around, white, frames, end)
        seen = torch.cat((before.bands, _with_next(bands, frames, 1)), dim=1)
        filters = self.layers.filters(seen, said, around[:, :-1])
        added = overlap_add(filtered_pieces(sources, filters))
        added[:, :OVERLAP_SAMPLES] += self.overlap
        hop = frames * HOP_SAMPLES
        self.overlap.copy_(added[:, hop:])
        before.bands.copy_(bands[:, frames - 1 : frames])
        before.f0_hz.copy_(f0_hz[:, frames - 1 : frames])
        before.voiced.copy_(voiced[:, frames - 1 : frames])
        before.filled_hz.copy_(filled[:, frames - 1 : frames])
        return added[0, :hop]

    def _sources(self, hz: Tensor, voiced: Tensor, white: Tensor, frames: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """hz (1, frames + 2), voiced (1, frames + 3), from the frame before the new ones on -> (1, frames * hop + 2 MARGIN)."""
        wanted = frames * HOP_SAMPLES + MARGIN_SAMPLES
        if end == frames:  # what a stream's last window sees behind its end is nothing
            white = torch.nn.functional.pad(white, (0, HOP_SAMPLES))
        # The frame behind the new ones is seen by its first samples only, which lie before its middle.
        hz = torch.cat((hz, hz[:, -1:]), dim=1)
        white = white[:, : (frames + 1) * HOP_SAMPLES]
        pulses, pulsed, cycles = excite(hz, voiced, white, self.phase_cycles)
        self.phase_cycles.copy_(cycles[:, frames * HOP_SAMPLES - 1 : frames * HOP_SAMPLES])
        fresh = torch.stack((pulses, white, pulsed), dim=2)[:, :wanted]
        if end == frames:
            fresh[:, frames * HOP_SAMPLES :] = 0
        joined = self.sources.extend(fresh, frames * HOP_SAMPLES)
        return joined[..., 0], joined[..., 1], joined[..., 2]


def _with_next(rows: Tensor, frames: int, count: int) -> Tensor:
    """(1, T, ...) -> the first `frames` and `count` behind them, which the last one stands for where there are none."""
    end = rows.shape[1]
    behind = [rows[:, i : i + 1] for i in (min(frames + n, end - 1) for n in range(count))]
    return torch.cat((rows[:, :frames], *behind), dim=1)
