"""A RefineGAN as a stream. Same contract, and same two kinds of stages, as `rvcd.engine.decoder`: read that first.

What differs: the excitation is brought down to each stage's rate, which costs 1 % of the whole and is computed anew over a few
frames each step; its last decimation reaches 67 frames to both sides. Those before are remembered. Of those behind there are as
many as the lookahead gives, and the rest counts as silence: what that costs falls with the lookahead (docs/voices.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rvcd.engine.decoder import MAX_TAIL_MS, Carried, DelayedStage, History, LookaheadConv, LookaheadResBlock, Span
from rvcd.engine.decoder_layers import block_reach, reach
from rvcd.engine.dsp.noise import frame_hashes, frame_noise
from rvcd.engine.refinegan_layers import RefineLayers, StageLayers
from rvcd.formats.voice_shapes import REFINEGAN_KERNELS
from rvcd.nets.refinegan import SLOPE, ActivationNoise, RefineGan
from rvcd.yielding import yield_point

LOOKAHEAD_FRAMES = 8
"""Provisional frames worth giving: the difference to the whole recording is -65 dB with 6 and -69 dB with 12 (random weights)."""
NOISE_TABLE_SAMPLES = 1 << 20
NOISE_STREAM = 16
"""First of the noise sequences of the activations; one a place."""


class PlacedNoise:
    """Normal numbers for every position of a layer: each frame's are a piece of one table, chosen by the frame's hash."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.table = torch.from_numpy(frame_noise(seed, 0, 1, NOISE_TABLE_SAMPLES, NOISE_STREAM)[0])

    def at(self, place: int, channels: int, first: int, count: int, per_frame: int) -> Tensor:
        """Return positions first .. first + count of a layer with per_frame positions a frame, (1, C, 1, count)."""
        frame, end = first // per_frame, -(-(first + count) // per_frame)
        size = per_frame * channels
        hashes = frame_hashes(self.seed, frame, end - frame, NOISE_STREAM + 1 + place)
        offsets = torch.from_numpy((hashes % np.uint64(NOISE_TABLE_SAMPLES - size + 1)).astype(np.int64))
        rows = self.table.unfold(0, size, 1)[offsets].reshape(1, 1, -1, channels).permute(0, 3, 1, 2)
        skipped = first - frame * per_frame
        return rows[..., skipped : skipped + count]


def activation_noise(seed: int, generator: RefineGan) -> ActivationNoise:
    """Return the noise that a stream of this seed has in its activations, for the whole of a recording at once."""
    placed, blocks = PlacedNoise(seed), len(REFINEGAN_KERNELS)

    def at(stage: int, block: int, side: int, shape: tuple[int, int]) -> Tensor:
        per_frame = math.prod(generator.upsample_rates[: stage + 1])
        return placed.at((stage * blocks + block) * 2 + side, shape[0], 0, shape[1], per_frame)[0, :, 0]

    return at


class LinearUpsample:
    """Linear interpolation by a whole rate around the middles of the positions, held at both ends of the stream."""

    def __init__(self, rate: int, channels: int) -> None:
        self.rate, self.pad = rate, rate // 2
        self.history = History(1, channels, torch.float32)

    def step(self, x: Tensor, first: int, advance: int, end: int | None, *, delayed: bool) -> Tensor:
        """x's first position is `first` of its layer -> x.shape[3] * rate positions: those of x itself, or `pad` earlier."""
        length = x.shape[3]
        seen = self.history.extend(x, advance)
        wanted = torch.arange(length * self.rate, device=x.device) + (first * self.rate - (self.pad if delayed else 0))
        at = (wanted.double() + 0.5) / self.rate - 0.5
        low = at.floor()
        weight = (at - low).to(x.dtype)
        last = first + length - 1 if end is None else min(first + length, max(end, 1)) - 1
        lower, upper = ((low + i).long().clamp(0, max(last, 0)) - (first - 1) for i in (0, 1))
        low_x, high_x = (seen[..., index.clamp(0, length)] for index in (lower, upper))
        return low_x + (high_x - low_x) * weight


class StageStream:
    """What follows one upsampling: the input's convolution and the mean of the noisy residual blocks."""

    def __init__(self, layers: StageLayers, number: int, per_frame: int, noise: PlacedNoise) -> None:
        self.layers, self.number, self.per_frame, self.noise = layers, number, per_frame, noise

    def activated(self, block: int, at: int, x: Tensor, first: int) -> Tensor:
        """Return x, whose first position is `first`, behind one of a block's two noisy activations."""
        place = (self.number * len(self.layers.blocks) + block) * 2 + at
        noise = self.noise.at(place, self.layers.channels, first, x.shape[3], self.per_frame).to(x.device)
        return F.leaky_relu(torch.addcmul(x, self.layers.blocks[block].amounts[at], noise), SLOPE)


class LookaheadStageStream(StageStream):
    """Over [new | provisional], no delay."""

    def __init__(self, layers: StageLayers, number: int, per_frame: int, noise: PlacedNoise) -> None:
        super().__init__(layers, number, per_frame, noise)
        self.input = LookaheadConv(layers.input_conv)
        self.blocks = [LookaheadResBlock(block.pairs, SLOPE) for block in layers.blocks]

    def histories(self) -> list[History | Carried]:
        return [self.input.history, *(carried for block in self.blocks for carried in block.carried())]

    def step(self, x: Tensor, advance: int, first: int, span: Span) -> Tensor:
        entered = span.clear_outside(self.input.step(x, advance), first, self.per_frame)
        total = torch.zeros_like(entered)
        for j, block in enumerate(self.blocks):
            y = span.clear_outside(self.activated(j, 0, entered, first), first, self.per_frame)
            total += self.activated(j, 1, block.step(y, advance, first, self.per_frame, span), first)
        return span.clear_outside(total * (1.0 / len(self.blocks)), first, self.per_frame)


class DelayedStageStream(StageStream):
    """Exact carried state; the result comes `delay` positions late."""

    def __init__(self, layers: StageLayers, number: int, per_frame: int, noise: PlacedNoise) -> None:
        super().__init__(layers, number, per_frame, noise)
        self.input_reach = reach(layers.input_conv)
        self.input_history = History(2 * self.input_reach, layers.input_conv.channels_in, torch.float32)
        self.blocks = [DelayedStage([block.pairs], layers.channels, SLOPE) for block in layers.blocks]
        self.longest = max(block.delay for block in self.blocks)
        # Shorter blocks start later, so that all end together.
        self.lags = [self.longest - block.delay for block in self.blocks]
        self.entered_history = History(max(self.lags), layers.channels, torch.float32)
        self.delay = self.input_reach + self.longest

    def histories(self) -> list[History | Carried]:
        return [
            self.input_history, self.entered_history, *(carried for block in self.blocks for carried in block.carried())
        ]  # fmt: skip

    def step(self, x: Tensor, first: int, span: Span) -> Tensor:
        length = x.shape[3]
        entered = self.layers.input_conv(self.input_history.extend(x, length))
        first -= self.input_reach
        entered = span.clear_outside(entered, first, self.per_frame)
        seen = self.entered_history.extend(entered, length)
        total: Tensor | None = None
        for j, (block, lag) in enumerate(zip(self.blocks, self.lags, strict=True)):
            start = self.entered_history.length - lag
            y = self.activated(j, 0, seen[..., start : start + length], first - lag)
            room = block.input.room(length)[..., block.input.length :]
            room.copy_(span.clear_outside(y, first - lag, self.per_frame))
            y = self.activated(j, 1, block.step(length, first - lag, self.per_frame, span), first - self.longest)
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
        self.source = torch.zeros(0)
        self.last_rate_history = torch.zeros(0)
        self.bottom = torch.zeros(0)
        last = levels[-1] if levels else None
        self.reach_frames = reach_frames + (last.decimator.before / last.decimator.rate + 3 if last else 0)

    def reset(self, like: Tensor) -> None:
        self.source = like.new_zeros((1, 1, 1, self.past_frames * self.layers.hop))
        if self.layers.levels:
            last = self.layers.levels[-1]
            self.last_rate_history = like.new_zeros((last.conv.in_channels, last.decimator.before))
            self.bottom = like.new_zeros((1, last.conv.in_channels, last.conv.kernel_size[0] // 2))

    def step(self, source: Tensor, frames: int, first: int, span: Span) -> tuple[list[tuple[Tensor, int]], Tensor]:
        """source (1, 1, (frames + provisional) * hop), its first frame is number `first`, `frames` are new.

        Returns, for each stage in order, what steers it (1, C, 1, positions) and the number of its first position; and what comes
        beside the latents (1, C, 1, frames + provisional).
        """
        hop = self.layers.hop
        joined = torch.cat((self.source, source.unsqueeze(2)), dim=3)
        start = first - self.past_frames
        self.source = joined[..., frames * hop :][..., : self.past_frames * hop].clone()
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
        seen = torch.cat((self.last_rate_history, x), dim=1)
        advance = frames * per_frame
        self.last_rate_history = seen[:, advance : advance + self.last_rate_history.shape[1]].clone()
        framed = span.clear_outside(level.decimator(seen, x.shape[1] // per_frame), first, 1)[None]
        joined = torch.cat((self.bottom, framed), dim=2)
        self.bottom = joined[..., frames : frames + self.bottom.shape[2]].clone()
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
        noise = PlacedNoise(self.seed)
        self.lookahead_stages = self._choose_lookahead_stages()
        self.ups = [LinearUpsample(stage.rate, self._channels_in(i)) for i, stage in enumerate(layers.stages)]
        self.ahead = [LookaheadStageStream(layers.stages[i], i, per_frame[i], noise) for i in range(self.lookahead_stages)]
        self.delayed = [
            DelayedStageStream(layers.stages[i], i, per_frame[i], noise) for i in range(self.lookahead_stages, len(layers.stages))
        ]
        self.post_history = History(2 * reach(layers.post), layers.post.channels_in, layers.post.dtype)
        self.delays = self._delays()
        self.tail_samples = self.delays[-1] + reach(layers.post)
        kept = max((math.ceil(d / n) for d, n in zip(self.delays, per_frame[self.lookahead_stages :], strict=False)), default=0)
        taps = [math.ceil(tap.kernel / self.hop) for tap in layers.taps]
        self.path = SourcePath(layers, kept + 1 + max(taps, default=0))
        self.exact_lookahead_frames = self._exact_lookahead_frames()
        self.lookahead_frames = min(LOOKAHEAD_FRAMES, self.exact_lookahead_frames)
        self.reset()

    def _channels_in(self, stage: int) -> int:
        return 2 * self.layers.stages[stage].channels

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
        like = self.condition
        histories: list[History | Carried] = [self.mel.history, self.post_history, *(up.history for up in self.ups)]
        histories += [history for stage in self.ahead for history in stage.histories()]
        histories += [history for stage in self.delayed for history in stage.histories()]
        for history in histories:
            history.reset(like)
        self.path.reset(like)
        self.state = RefineState(first_frame)

    @torch.inference_mode()
    def step(self, z: Tensor, source: Tensor | None, frames: int, *, end_frame: int | None = None) -> Tensor:
        """Take `frames` new frames and return their hop * frames samples, tail_samples late: see StreamingDecoder.step."""
        first, span, total = self.state.frames, Span(end_frame), z.shape[-1]
        if source is None or source.shape[-1] != total * self.hop:
            raise ValueError(f"this voice needs an excitation of {total * self.hop} samples")
        self.state.frames += frames
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
            x = stage.step(span.clear_outside(x, first * per_frame, per_frame), advance, first * per_frame, span)
            per_before = per_frame
        x, delay = x[..., :advance], 0

        for i, (delayed, entering) in enumerate(zip(self.delayed, self.delays, strict=False), start=self.lookahead_stages):
            per_frame = delayed.per_frame
            end = None if end_frame is None else end_frame * per_before
            x = self.ups[i].step(F.leaky_relu(x, SLOPE), first * per_before - delay, x.shape[3], end, delayed=True)
            position = first * per_frame - entering
            x = torch.cat((x, self._steer(steering, i, position, x.shape[3])), dim=1)
            x = delayed.step(span.clear_outside(x, position, per_frame), position, span)
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
