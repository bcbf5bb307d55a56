"""A RefineGAN as a stream. Same contract, and same two kinds of stages, as `rvcd.engine.decoder`: read that first.

What differs: the excitation is brought down to each stage's rate, which costs 1 % of the whole and is computed anew over a few
frames each step; its last decimation reaches 67 frames to both sides. Those before are remembered. Of those behind there are as
many as the lookahead gives, and the rest counts as silence: what that costs falls with the lookahead (docs/voices.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.decoder import (
    MAX_TAIL_MS,
    UNDER_WAY_FRAMES,
    Carried,
    DelayedStage,
    History,
    LookaheadConv,
    LookaheadResBlock,
    Span,
)
from rvcd.engine.decoder_layers import block_reach, reach
from rvcd.engine.dsp.noise import frame_hashes, frame_noise
from rvcd.engine.refinegan_layers import RefineLayers, StageLayers
from rvcd.formats.voice_shapes import REFINEGAN_KERNELS
from rvcd.nets.refinegan import SLOPE, ActivationNoise, RefineGan
from rvcd.nets.rolling_buffer import Past
from rvcd.yielding import yield_point

LOOKAHEAD_FRAMES = 8
"""Provisional frames worth giving: the difference to the whole recording is -65 dB with 6 and -69 dB with 12 (random weights)."""
NOISE_TABLE_SAMPLES = 1 << 20
NOISE_STREAM = 16
"""First of the noise sequences of the activations; one a place."""


class PlacedNoise:
    """Normal numbers for every position of a layer: each frame's are a piece of one table, chosen by the frame's hash."""

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        self.seed = seed
        self.table = torch.from_numpy(frame_noise(seed, 0, 1, NOISE_TABLE_SAMPLES, NOISE_STREAM)[0])
        if device is not None:
            self.table = self.table.to(device)

    def offsets(self, place: int, channels: int, first: int, count: int, per_frame: int) -> NDArray[np.int64]:
        """Return where in the table the pieces of the frames begin that positions first .. first + count lie in."""
        frame, end = first // per_frame, -(-(first + count) // per_frame)
        hashes = frame_hashes(self.seed, frame, end - frame, NOISE_STREAM + 1 + place)
        return (hashes % np.uint64(NOISE_TABLE_SAMPLES - per_frame * channels + 1)).astype(np.int64)

    def taken(self, offsets: Tensor, channels: int, first: int, count: int, per_frame: int) -> Tensor:
        """Return positions first .. first + count of a layer with per_frame positions a frame, (1, C, 1, count)."""
        rows = self.table.unfold(0, per_frame * channels, 1)[offsets].reshape(1, 1, -1, channels).permute(0, 3, 1, 2)
        skipped = first % per_frame
        return rows[..., skipped : skipped + count]

    def at(self, place: int, channels: int, first: int, count: int, per_frame: int) -> Tensor:
        """As taken(), at a place."""
        offsets = torch.from_numpy(self.offsets(place, channels, first, count, per_frame))
        return self.taken(offsets, channels, first, count, per_frame)


def activation_noise(seed: int, generator: RefineGan) -> ActivationNoise:
    """Return the noise that a stream of this seed has in its activations, for the whole of a recording at once."""
    placed, blocks = PlacedNoise(seed), len(REFINEGAN_KERNELS)

    def at(stage: int, block: int, side: int, shape: tuple[int, int]) -> Tensor:
        per_frame = math.prod(generator.upsample_rates[: stage + 1])
        return placed.at((stage * blocks + block) * 2 + side, shape[0], 0, shape[1], per_frame)[0, :, 0]

    return at


class LinearUpsample:
    """Linear interpolation by a whole rate around the middles of the positions, held at both ends of the stream."""

    def __init__(self, rate: int) -> None:
        self.rate, self.pad = rate, rate // 2
        self.history = History(1)

    def step(self, x: Tensor, first: int, advance: int, end: int | None, *, delayed: bool) -> Tensor:
        """x's first position is `first` of its layer -> x.shape[3] * rate positions: those of x itself, or `pad` earlier."""
        length = x.shape[3]
        seen = self.history.extend(x, advance)
        # Counted from x's first position, so that it is the same for every block of a stream that is under way.
        wanted = torch.arange(length * self.rate, device=x.device) - (self.pad if delayed else 0)
        at = (wanted.double() + 0.5) / self.rate - 0.5
        low = at.floor()
        weight = (at - low).to(x.dtype)
        last = first + length - 1 if end is None else min(first + length, max(end, 1)) - 1
        # seen[..., 0] is the position before x's first; the layer's positions are 0 .. last.
        least, most = (min(max(position - (first - 1), 0), length) for position in (0, max(last, 0)))
        low_x, high_x = (seen[..., (low.long() + 1 + i).clamp(least, most)] for i in (0, 1))
        return low_x + (high_x - low_x) * weight


class StageStream:
    """What follows one upsampling: the input's convolution and the mean of the noisy residual blocks."""

    def __init__(self, layers: StageLayers, number: int, per_frame: int, noise: PlacedNoise) -> None:
        self.layers, self.number, self.per_frame, self.noise = layers, number, per_frame, noise

    def offsets(self, block: int, at: int, first: int, count: int) -> NDArray[np.int64]:
        """Return where the noise of one of a block's two activations lies: see PlacedNoise."""
        place = (self.number * len(self.layers.blocks) + block) * 2 + at
        return self.noise.offsets(place, self.layers.channels, first, count, self.per_frame)

    def activated(self, block: int, at: int, x: Tensor, first: int, offsets: Tensor) -> Tensor:
        """Return x, whose first position is `first`, behind one of a block's two noisy activations."""
        noise = self.noise.taken(offsets, self.layers.channels, first, x.shape[3], self.per_frame)
        return F.leaky_relu(torch.addcmul(x, self.layers.blocks[block].amounts[at], noise), SLOPE)


class LookaheadStageStream(StageStream):
    """Over [new | provisional], no delay."""

    def __init__(self, layers: StageLayers, number: int, per_frame: int, noise: PlacedNoise) -> None:
        super().__init__(layers, number, per_frame, noise)
        self.input = LookaheadConv(layers.input_conv)
        self.blocks = [LookaheadResBlock(block.pairs, SLOPE) for block in layers.blocks]

    def histories(self) -> list[History | Carried]:
        return [self.input.history, *(carried for block in self.blocks for carried in block.carried())]

    def noise_inputs(self, first: int, count: int) -> list[NDArray[Any]]:
        """Return what step() takes of `noise`, in its order."""
        return [self.offsets(j, at, first, count) for j in range(len(self.blocks)) for at in (0, 1)]

    def step(self, x: Tensor, advance: int, first: int, span: Span, noise: Iterator[Tensor]) -> Tensor:
        entered = span.clear_outside(self.input.step(x, advance), first, self.per_frame)
        total = torch.zeros_like(entered)
        for j, block in enumerate(self.blocks):
            y = span.clear_outside(self.activated(j, 0, entered, first, next(noise)), first, self.per_frame)
            total += self.activated(j, 1, block.step(y, advance, first, self.per_frame, span), first, next(noise))
        return span.clear_outside(total * (1.0 / len(self.blocks)), first, self.per_frame)


class DelayedStageStream(StageStream):
    """Exact carried state; the result comes `delay` positions late."""

    def __init__(self, layers: StageLayers, number: int, per_frame: int, noise: PlacedNoise) -> None:
        super().__init__(layers, number, per_frame, noise)
        self.input_reach = reach(layers.input_conv)
        self.input_history = History(2 * self.input_reach)
        self.blocks = [DelayedStage([block.pairs], layers.channels, SLOPE) for block in layers.blocks]
        self.longest = max(block.delay for block in self.blocks)
        # Shorter blocks start later, so that all end together.
        self.lags = [self.longest - block.delay for block in self.blocks]
        self.entered_history = History(max(self.lags))
        self.delay = self.input_reach + self.longest

    def histories(self) -> list[History | Carried]:
        return [
            self.input_history, self.entered_history, *(carried for block in self.blocks for carried in block.carried())
        ]  # fmt: skip

    def noise_inputs(self, first: int, count: int) -> list[NDArray[Any]]:
        """Return what step() takes of `noise`, in its order."""
        entered = first - self.input_reach
        places = ((j, at, entered - (self.longest if at else lag)) for j, lag in enumerate(self.lags) for at in (0, 1))
        return [self.offsets(j, at, position, count) for j, at, position in places]

    def step(self, x: Tensor, first: int, span: Span, noise: Iterator[Tensor]) -> Tensor:
        length = x.shape[3]
        entered = self.layers.input_conv(self.input_history.extend(x, length))
        first -= self.input_reach
        entered = span.clear_outside(entered, first, self.per_frame)
        seen = self.entered_history.extend(entered, length)
        total: Tensor | None = None
        for j, (block, lag) in enumerate(zip(self.blocks, self.lags, strict=True)):
            start = self.entered_history.length - lag
            y = self.activated(j, 0, seen[..., start : start + length], first - lag, next(noise))
            room = block.input.room(length)[..., block.input.length :]
            room.copy_(span.clear_outside(y, first - lag, self.per_frame))
            y = block.step(length, first - lag, self.per_frame, span)
            y = self.activated(j, 1, y, first - self.longest, next(noise))
            total = y if total is None else total + y
        assert total is not None
        return span.clear_outside(total * (1.0 / len(self.blocks)), first - self.longest, self.per_frame)


class SourcePath:
    """The excitation on its way down to the stages' rates."""

    def __init__(self, layers: RefineLayers, kept_frames: int) -> None:
        """kept_frames: how many frames before the new ones the stages still ask for."""
        self.layers = layers
        hop, levels = layers.hop, layers.levels
        reach_frames = layers.source_conv.kernel_size[0] // 2 / hop
        positions = float(hop)
        for level in levels[:-1]:
            positions /= level.decimator.rate
            reach_frames += (level.decimator.before / level.decimator.rate + level.conv.kernel_size[0] // 2 + 1) / positions
        self.past_frames = kept_frames + math.ceil(reach_frames)
        last = levels[-1] if levels else None
        self.source = Past(self.past_frames * hop, 3, zeros=True)
        self.last_rate = Past(last.decimator.before if last else 0, 1, zeros=True)
        self.bottom = Past(last.conv.kernel_size[0] // 2 if last else 0, 2, zeros=True)
        self.reach_frames = reach_frames + (last.decimator.before / last.decimator.rate + 3 if last else 0)

    def reset(self) -> None:
        """Start with zeros."""
        for past in (self.source, self.last_rate, self.bottom):
            past.reset()

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; None before the first step."""
        return [self.source.tensor, self.last_rate.tensor, self.bottom.tensor]

    def step(self, source: Tensor, frames: int, first: int, span: Span) -> tuple[list[tuple[Tensor, int]], Tensor]:
        """source (1, 1, (frames + provisional) * hop), its first frame is number `first`, `frames` are new.

        Returns, for each stage in order, what steers it (1, C, 1, positions) and the number of its first position; and what comes
        beside the latents (1, C, 1, frames + provisional).
        """
        hop = self.layers.hop
        joined = self.source.extend(source.unsqueeze(2), frames * hop)
        start = first - self.past_frames
        span.clear_outside(joined, start * hop, hop)
        if not self.layers.levels:
            return [(joined, start * hop)], self.layers.framed_source(joined[..., self.past_frames * hop :])
        return self._levels(joined[0, :, 0], start, frames, first, span)

    def _levels(self, source: Tensor, start: int, frames: int, first: int, span: Span) -> tuple[list[tuple[Tensor, int]], Tensor]:
        """source (1, L) from frame `start` on."""
        steering: list[tuple[Tensor, int]] = []
        per_frame = self.layers.hop
        x = span.clear_outside(F.conv1d(source[None], self.layers.source_conv.weight, self.layers.source_conv.bias, padding=3)[0],
                               start * per_frame, per_frame)  # fmt: skip
        for level in self.layers.levels[:-1]:
            yield_point()
            x = F.leaky_relu(x, SLOPE)
            steering.append((_last_axis(x), start * per_frame))
            rate = level.decimator.rate
            x = level.decimator(F.pad(x, (level.decimator.before, 0)), x.shape[1] // rate)
            per_frame //= rate
            x = span.clear_outside(x, start * per_frame, per_frame)
            x = F.conv1d(x[None], level.conv.weight, level.conv.bias, padding=3)[0]
            x = span.clear_outside(x, start * per_frame, per_frame)
        x = F.leaky_relu(x, SLOPE)
        steering.append((_last_axis(x), start * per_frame))
        return steering[::-1], self._bottom(x[:, (first - start) * per_frame :], per_frame, frames, first, span)

    def _bottom(self, x: Tensor, per_frame: int, frames: int, first: int, span: Span) -> Tensor:
        """x (C, positions of the new and provisional frames) at the first stage's rate -> (1, C', 1, their frames)."""
        level = self.layers.levels[-1]
        seen = self.last_rate.extend(x, frames * per_frame)
        framed = span.clear_outside(level.decimator(seen, x.shape[1] // per_frame), first, 1)[None]
        joined = self.bottom.extend(framed, frames)
        made = F.conv1d(F.pad(joined, (0, 3)), level.conv.weight, level.conv.bias)
        return made.unsqueeze(2)


def _last_axis(x: Tensor) -> Tensor:
    """(C, L) -> (1, C, 1, L)."""
    return x[None, :, None]


@dataclass
class RefineState:
    """Where the stream is. The layers' histories lie with the layers; RefineDecoder.reset() clears all."""

    frames: int = 0


@dataclass
class RefineDecoder:
    """A stateful RefineGAN. One instance holds one stream; the layers are shared. For the figures see StreamingDecoder."""

    layers: RefineLayers
    speaker: Tensor
    """(1, gin, 1)."""
    seed: int
    """Of the noise in its activations."""
    state: RefineState = field(default_factory=RefineState)

    def __post_init__(self) -> None:
        layers, per_frame = self.layers, self.layers.per_frame
        self.hop = layers.hop
        self.mel = LookaheadConv(layers.mel)
        self.condition = layers.condition(self.speaker)
        noise = PlacedNoise(self.seed, self.condition.device)
        self.lookahead_stages = self._choose_lookahead_stages()
        self.ups = [LinearUpsample(stage.rate) for stage in layers.stages]
        self.ahead = [LookaheadStageStream(layers.stages[i], i, per_frame[i], noise) for i in range(self.lookahead_stages)]
        self.delayed = [
            DelayedStageStream(layers.stages[i], i, per_frame[i], noise) for i in range(self.lookahead_stages, len(layers.stages))
        ]
        self.post_history = History(2 * reach(layers.post))
        self.delays = self._delays()
        self.tail_samples = self.delays[-1] + reach(layers.post)
        kept = max((math.ceil(d / n) for d, n in zip(self.delays, per_frame[self.lookahead_stages :], strict=False)), default=0)
        taps = [math.ceil(tap.kernel / self.hop) for tap in layers.taps]
        self.path = SourcePath(layers, kept + 1 + max(taps, default=0))
        self.exact_lookahead_frames = self._exact_lookahead_frames()
        self.lookahead_frames = min(LOOKAHEAD_FRAMES, self.exact_lookahead_frames)
        self.reset()

    def _stage_reach(self, stage: int) -> int:
        layers = self.layers.stages[stage]
        return reach(layers.input_conv) + max(block_reach(block.pairs) for block in layers.blocks)

    def _choose_lookahead_stages(self) -> int:
        """Return the smallest count (at least 1) of lookahead stages that keeps the tail under MAX_TAIL_MS."""
        stages = self.layers.stages
        for count in range(1, len(stages)):
            tail_ms = sum(
                10.0 * (self._stage_reach(i) + stages[i].rate // 2) / self.layers.per_frame[i] for i in range(count, len(stages))
            )
            if tail_ms <= MAX_TAIL_MS:
                return count
        return len(stages)

    def _delays(self) -> list[int]:
        """Return the delay behind the upsampling of each delayed stage, then that after the last, in own positions."""
        delays, delay = [], 0
        for stage in self.delayed:
            delay = delay * stage.layers.rate + stage.layers.rate // 2
            delays.append(delay)
            delay += stage.delay
        return [*delays, delay]

    def _exact_lookahead_frames(self) -> int:
        frames = float(self.mel.reach)
        for i in range(self.lookahead_stages):
            frames += 1 / self.layers.per_frame[i - 1] if i else 1.0
            frames += self._stage_reach(i) / self.layers.per_frame[i]
        return math.ceil(frames + self.path.reach_frames)

    def reset(self, first_frame: int = 0) -> None:
        """Forget everything. The next step's first frame is number first_frame of its stream; those before count as absent."""
        for history in self._histories():
            history.reset(self.condition)
        self.path.reset()
        self.state = RefineState(first_frame)

    def _histories(self) -> list[History | Carried]:
        histories: list[History | Carried] = [self.mel.history, self.post_history, *(up.history for up in self.ups)]
        histories += [history for stage in self.ahead for history in stage.histories()]
        histories += [history for stage in self.delayed for history in stage.histories()]
        return histories

    @property
    def is_under_way(self) -> bool:
        """Whether the next step reaches nothing before the stream's beginning: steps differ in nothing but their inputs then."""
        return self.state.frames >= UNDER_WAY_FRAMES + math.ceil(self.tail_samples / self.hop) + self.path.past_frames

    def tensors(self) -> list[Tensor | None]:
        """Where the stream is kept; None before the first step."""
        return [*(tensor for history in self._histories() for tensor in history.tensors()), *self.path.tensors()]

    @torch.inference_mode()
    def step(self, z: Tensor, source: Tensor | None, frames: int, *, end_frame: int | None = None) -> Tensor:
        """Take `frames` new frames and return their hop * frames samples, tail_samples late: see StreamingDecoder.step."""
        noise = [torch.from_numpy(offsets).to(z.device) for offsets in self.noise_inputs(frames, z.shape[-1])]
        samples = self.run(z, source, frames, noise, end_frame=end_frame)
        self.state.frames += frames
        return samples

    def noise_inputs(self, frames: int, total: int) -> list[NDArray[Any]]:
        """Return what run() is given for a step of `frames` frames, `total` with the provisional ones."""
        inputs, first = [], self.state.frames
        for stage in self.ahead:
            inputs += stage.noise_inputs(first * stage.per_frame, total * stage.per_frame)
        for delayed, entering in zip(self.delayed, self.delays, strict=False):
            inputs += delayed.noise_inputs(first * delayed.per_frame - entering, frames * delayed.per_frame)
        return inputs

    def run(self, z: Tensor, source: Tensor | None, frames: int, noise: list[Tensor], *, end_frame: int | None = None) -> Tensor:
        """As step(), but state.frames, which no tensor knows, stays. noise: noise_inputs() on the device."""
        first, span, total, given = self.state.frames, Span(end_frame), z.shape[-1], iter(noise)
        if source is None or source.shape[-1] != total * self.hop:
            raise ValueError(f"this voice needs an excitation of {total * self.hop} samples")
        steering, bottom = self.path.step(source, frames, first, span)

        z = z.unsqueeze(2).clone(memory_format=torch.channels_last)
        latents = self.mel.step(span.clear_outside(z, first, 1), frames) + self.condition
        x = span.clear_outside(torch.cat((latents, bottom), dim=1), first, 1)
        advance, per_before = frames, 1
        for i, stage in enumerate(self.ahead):
            per_frame = stage.per_frame
            end = None if end_frame is None else end_frame * per_before
            x = self.ups[i].step(F.leaky_relu(x, SLOPE), first * per_before, advance, end, delayed=False)
            advance = frames * per_frame
            x = torch.cat((x, self._steer(steering, i, first * per_frame, x.shape[3])), dim=1)
            x = stage.step(span.clear_outside(x, first * per_frame, per_frame), advance, first * per_frame, span, given)
            per_before = per_frame
        x, delay = x[..., :advance], 0

        for i, (delayed, entering) in enumerate(zip(self.delayed, self.delays, strict=False), start=self.lookahead_stages):
            per_frame = delayed.per_frame
            end = None if end_frame is None else end_frame * per_before
            x = self.ups[i].step(F.leaky_relu(x, SLOPE), first * per_before - delay, x.shape[3], end, delayed=True)
            position = first * per_frame - entering
            x = torch.cat((x, self._steer(steering, i, position, x.shape[3])), dim=1)
            x = delayed.step(span.clear_outside(x, position, per_frame), position, span, given)
            delay, per_before = entering + delayed.delay, per_frame

        x = self.post_history.extend(F.leaky_relu(x, SLOPE), x.shape[3])
        return torch.tanh(self.layers.post(x)).reshape(-1)

    def _steer(self, steering: list[tuple[Tensor, int]], stage: int, first: int, count: int) -> Tensor:
        """Return what steers a stage at positions first .. first + count, (1, C, 1, count)."""
        if self.layers.taps:
            source, source_first = steering[0]
            return self.layers.taps[stage].positions(source, source_first, first, count)
        known, known_first = steering[stage]
        return known[..., first - known_first : first - known_first + count]
