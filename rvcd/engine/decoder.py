"""The generator's decoder as a stream: every convolution keeps the left samples it needs, nothing is crossfaded.

Two kinds of stages:
- *lookahead stages* (the first, at 10 ms resolution, where 60 positions of reach would cost 60 ms of delay): they also see
  provisional future frames, whose results are thrown away and computed again when those frames are final;
- *delayed stages* (all others): exact carried state. Output comes `tail_samples` later than its input.

With at least `exact_lookahead_frames` future frames the samples equal the offline decoder's to rounding, however the
frames are cut into steps; with fewer, the difference falls by about 10 dB a frame.

Tensors here are (1, C, 1, T): one-dimensional convolutions written as two-dimensional ones of height 1 reach oneDNN's
fast kernels on CPUs (twice as fast as conv1d where it was measured).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvcd.models.synthesizer import LRELU_SLOPE, Generator, ResBlock

MAX_TAIL_MS = 15.0
"""Stages are run with lookahead until what the rest adds is at most this."""


@dataclass(frozen=True)
class Conv:
    """Weights of one same-padded convolution (stride 1), ready for conv2d. reach: positions needed on each side."""

    weight: Tensor
    bias: Tensor | None
    dilation: int
    reach: int

    @classmethod
    def of(cls, module: nn.Conv1d) -> Conv:
        dilation, kernel = module.dilation[0], module.kernel_size[0]
        bias = None if module.bias is None else module.bias.detach()
        return cls(module.weight.detach().unsqueeze(2), bias, dilation, dilation * (kernel - 1) // 2)

    @property
    def channels_in(self) -> int:
        return self.weight.shape[1]

    def valid(self, x: Tensor) -> Tensor:
        """Convolve without padding: 2 * reach positions fewer come out."""
        return F.conv2d(x, self.weight, self.bias, dilation=(1, self.dilation))


@dataclass(frozen=True)
class Span:
    """The positions that exist: 0 up to `end` (None: not known yet). Offline pads with zeros outside, so do we."""

    end_frames: int | None = None

    def clear_outside(self, x: Tensor, first: int, per_frame: int) -> Tensor:
        """Zero what lies outside, where x[..., 0] is at position `first` of a layer with per_frame positions a frame."""
        length = x.shape[-1]
        if first < 0:
            x[..., : min(-first, length)] = 0
        if self.end_frames is not None:
            x[..., max(self.end_frames * per_frame - first, 0) :] = 0
        return x


@dataclass
class History:
    """The newest `length` positions of one layer's input."""

    length: int
    channels: int
    kept: Tensor = field(init=False)

    def reset(self, like: Tensor) -> None:
        self.kept = like.new_zeros((1, self.channels, 1, self.length))

    def extend(self, x: Tensor, advance: int) -> Tensor:
        """Return history followed by x, and remember the newest positions up to x[..., advance - 1]."""
        joined = torch.cat((self.kept, x), dim=3)
        self.kept = joined[..., advance : advance + self.length].clone()
        return joined


class LookaheadConv:
    """Same-length convolution over [new | provisional]; zeros stand beyond the provisional end."""

    def __init__(self, conv: Conv) -> None:
        self.conv, self.history = conv, History(conv.reach, conv.channels_in)

    def step(self, x: Tensor, advance: int) -> Tensor:
        return self.conv.valid(F.pad(self.history.extend(x, advance), (0, self.conv.reach)))


class LookaheadResBlock:
    """A residual block over [new | provisional], no delay."""

    def __init__(self, block: ResBlock) -> None:
        self.pairs = [
            (LookaheadConv(Conv.of(a)), LookaheadConv(Conv.of(b)))  # type: ignore[arg-type]
            for a, b in zip(block.convs1, block.convs2, strict=True)
        ]
        self.reach = sum(a.conv.reach + b.conv.reach for a, b in self.pairs)

    def histories(self) -> list[History]:
        return [conv.history for pair in self.pairs for conv in pair]

    def step(self, x: Tensor, advance: int, first: int, per_frame: int, span: Span) -> Tensor:
        for dilated, plain in self.pairs:
            y = dilated.step(F.leaky_relu(x, LRELU_SLOPE), advance)
            y = span.clear_outside(F.leaky_relu(y, LRELU_SLOPE), first, per_frame)
            x = span.clear_outside(x + plain.step(y, advance), first, per_frame)
        return x


class DelayedResBlock:
    """A residual block with exact carried state; its output is `delay` positions behind its input."""

    def __init__(self, block: ResBlock) -> None:
        self.pairs: list[tuple[Conv, Conv, History, History]] = []
        for a, b in zip(block.convs1, block.convs2, strict=True):
            dilated, plain = Conv.of(a), Conv.of(b)  # type: ignore[arg-type]
            channels = dilated.channels_in
            self.pairs.append((dilated, plain, History(2 * dilated.reach, channels), History(2 * plain.reach, channels)))
        self.delay = sum(dilated.reach + plain.reach for dilated, plain, _, _ in self.pairs)

    def histories(self) -> list[History]:
        return [history for _, _, before, between in self.pairs for history in (before, between)]

    def step(self, x: Tensor, first: int, per_frame: int, span: Span) -> Tensor:
        length = x.shape[-1]
        for dilated, plain, before, between in self.pairs:
            seen = before.extend(x, length)
            y = dilated.valid(F.leaky_relu(seen, LRELU_SLOPE))
            y = span.clear_outside(F.leaky_relu(y, LRELU_SLOPE), first - dilated.reach, per_frame)
            # The residual is taken as late as the two convolutions make their output.
            delay = dilated.reach + plain.reach
            x = plain.valid(between.extend(y, length)) + seen[..., 2 * dilated.reach - delay :][..., :length]
            first -= delay
            x = span.clear_outside(x, first, per_frame)
        return x


class Upsample:
    """Transposed convolution as a stream."""

    def __init__(self, module: nn.ConvTranspose1d) -> None:
        self.weight, self.bias = module.weight.detach().unsqueeze(2), module.bias.detach()  # type: ignore[union-attr]
        self.stride, kernel, self.pad = module.stride[0], module.kernel_size[0], int(module.padding[0])
        self.history = History(math.ceil(kernel / self.stride) - 1, self.weight.shape[0])

    def step(self, x: Tensor, advance: int, *, delayed: bool) -> Tensor:
        """x.shape[-1] * stride positions: those of x itself, or, when delayed, `pad` positions earlier (exact)."""
        first = self.history.length * self.stride + (0 if delayed else self.pad)
        length = x.shape[-1] * self.stride
        y = F.conv_transpose2d(self.history.extend(x, advance), self.weight, self.bias, (1, self.stride))
        return y[..., first : first + length]


class SourceTap:
    """The excitation, convolved down to one stage's rate."""

    def __init__(self, module: nn.Conv1d) -> None:
        self.weight, self.bias = module.weight.detach().unsqueeze(2), module.bias.detach()  # type: ignore[union-attr]
        self.stride, self.kernel, self.pad = module.stride[0], module.kernel_size[0], int(module.padding[0])

    def positions(self, source: Tensor, source_first: int, first: int, count: int) -> Tensor:
        """Return positions first .. first + count; source[..., 0] is sample source_first. Zeros stand where it is too short."""
        low = first * self.stride - self.pad
        high = (first + count - 1) * self.stride - self.pad + self.kernel
        start, stop = low - source_first, high - source_first
        x = source[..., max(start, 0) : max(stop, 0)]
        x = F.pad(x, (max(-start, 0), max(stop - source.shape[-1], 0)))
        return F.conv2d(x, self.weight, self.bias, (1, self.stride))


@dataclass
class DecoderState:
    """Where the stream is. The layers' histories lie with the layers; StreamingDecoder.reset() clears all."""

    frames: int = 0
    source: Tensor = field(default_factory=lambda: torch.zeros(0))


class StreamingDecoder:
    """A stateful `Generator`. One instance holds one stream; the weights are shared with the module.

    tail_samples: how much later than its frames the output comes, at the voice's rate.
    exact_lookahead_frames: provisional frames from which on the result equals the offline decoder's.
    """

    def __init__(self, generator: Generator, speaker: Tensor) -> None:
        """speaker (1, gin, 1)."""
        self.hop = generator.hop
        self.pre = LookaheadConv(Conv.of(generator.conv_pre))
        self.condition = generator.cond(speaker).unsqueeze(2)
        self.ups = [Upsample(up) for up in generator.ups]  # type: ignore[arg-type]
        self.taps = [SourceTap(conv) for conv in generator.noise_convs]  # type: ignore[arg-type]
        self.post = Conv.of(generator.conv_post)
        self.post_history = History(2 * self.post.reach, self.post.channels_in)
        blocks: list[ResBlock] = list(generator.resblocks)  # type: ignore[arg-type]
        per_stage = generator.blocks_per_stage
        stages = [blocks[i * per_stage : (i + 1) * per_stage] for i in range(len(self.ups))]
        self.per_frame = [math.prod(generator.upsample_rates[: i + 1]) for i in range(len(self.ups))]
        self.lookahead_stages = self._choose_lookahead_stages([[DelayedResBlock(b).delay for b in stage] for stage in stages])
        self.ahead = [[LookaheadResBlock(b) for b in stage] for stage in stages[: self.lookahead_stages]]
        self.delayed = [[DelayedResBlock(b) for b in stage] for stage in stages[self.lookahead_stages :]]
        self.alignment = [
            [History(max(b.delay for b in stage) - block.delay, self.ups[i].weight.shape[1]) for block in stage]
            for i, stage in enumerate(self.delayed, start=self.lookahead_stages)
        ]
        self.delays = self._delays([max(b.delay for b in stage) for stage in self.delayed])
        self.tail_samples = self.delays[-1] + self.post.reach
        self.exact_lookahead_frames = self._exact_lookahead_frames()
        rates = self.per_frame[self.lookahead_stages :]
        self.source_history = max(2 * self.hop, *((d + 2) * (self.hop // n) for d, n in zip(self.delays, rates, strict=False)))
        self.state = DecoderState()
        self.reset()

    def _choose_lookahead_stages(self, delays: list[list[int]]) -> int:
        """Return the smallest count (at least 1) of lookahead stages that keeps the tail under MAX_TAIL_MS."""
        for count in range(1, len(delays)):
            tail_ms = sum(10.0 * (max(delays[i]) + self.ups[i].pad) / self.per_frame[i] for i in range(count, len(delays)))
            if tail_ms <= MAX_TAIL_MS:
                return count
        return len(delays)

    def _delays(self, block_delays: list[int]) -> list[int]:
        """Return the delay before the residual blocks of each delayed stage, then that after the last, in own positions."""
        delays, delay = [], 0
        for up, block_delay in zip(self.ups[self.lookahead_stages :], block_delays, strict=True):
            delay = delay * up.stride + up.pad
            delays.append(delay)
            delay += block_delay
        return [*delays, delay]

    def _exact_lookahead_frames(self) -> int:
        frames = float(self.pre.conv.reach)
        for i, stage in enumerate(self.ahead):
            frames += (self.ups[i].pad + max(block.reach for block in stage)) / self.per_frame[i]
        return math.ceil(frames)

    def reset(self, first_frame: int = 0) -> None:
        """Forget everything. The next step's first frame is number first_frame of its stream; those before count as absent."""
        like = self.condition
        histories = [self.pre.history, self.post_history, *(up.history for up in self.ups)]
        histories += [history for stage in self.ahead for block in stage for history in block.histories()]
        histories += [history for stage in self.delayed for block in stage for history in block.histories()]
        histories += [history for stage in self.alignment for history in stage]
        for history in histories:
            history.reset(like)
        self.state = DecoderState(first_frame, like.new_zeros((1, 1, 1, self.source_history)))

    @torch.inference_mode()
    def step(self, z: Tensor, source: Tensor | None, frames: int, *, end_frame: int | None = None) -> Tensor:
        """Take `frames` new frames and return their hop * frames samples, tail_samples late.

        z (1, inter, frames + provisional), source (1, 1, (frames + provisional) * hop) after the merge or None for a voice
        without f0. Positions in the stream count from frame 0: what lies before it, or from end_frame on, is padding.
        To flush the end, step with zero frames of z while end_frame stays where the stream ended.
        """
        first, span = self.state.frames, Span(end_frame)
        total = z.shape[-1]
        self.state.frames += frames
        tapped, tapped_first = self._remember_source(source, frames, first, total)

        x = self.pre.step(span.clear_outside(z.unsqueeze(2).clone(), first, 1), frames)
        x = span.clear_outside(x + self.condition, first, 1)
        advance = frames
        for i, stage in enumerate(self.ahead):
            per_frame = self.per_frame[i]
            x = self.ups[i].step(F.leaky_relu(x, LRELU_SLOPE), advance, delayed=False)
            if self.taps:
                x = x + self.taps[i].positions(tapped, tapped_first, first * per_frame, total * per_frame)
            x = span.clear_outside(x, first * per_frame, per_frame)
            advance = frames * per_frame
            x = _mean([block.step(x, advance, first * per_frame, per_frame, span) for block in stage])
        x = x[..., :advance]

        for i, (stage_blocks, alignment, delay) in enumerate(
            zip(self.delayed, self.alignment, self.delays, strict=False), start=self.lookahead_stages
        ):
            per_frame = self.per_frame[i]
            x = self.ups[i].step(F.leaky_relu(x, LRELU_SLOPE), x.shape[-1], delayed=True)
            length = x.shape[-1]
            position = first * per_frame - delay
            if self.taps:
                x = x + self.taps[i].positions(tapped, tapped_first, position, length)
            x = span.clear_outside(x, position, per_frame)
            outputs = []
            for block, history in zip(stage_blocks, alignment, strict=True):
                aligned = history.extend(x, length)[..., :length]
                outputs.append(block.step(aligned, position - history.length, per_frame, span))
            x = _mean(outputs)

        x = self.post_history.extend(F.leaky_relu(x), x.shape[-1])
        return torch.tanh(self.post.valid(x)).reshape(-1)

    def _remember_source(self, source: Tensor | None, frames: int, first: int, total: int) -> tuple[Tensor, int]:
        """Return the excitation including its history, and the sample number of its first value."""
        if not self.taps:
            return self.state.source, 0
        if source is None or source.shape[-1] != total * self.hop:
            raise ValueError(f"this voice needs an excitation of {total * self.hop} samples")
        joined = torch.cat((self.state.source, source.unsqueeze(2)), dim=3)
        advance = frames * self.hop
        self.state.source = joined[..., advance : advance + self.source_history].clone()
        return joined, first * self.hop - self.source_history


def _mean(outputs: list[Tensor]) -> Tensor:
    total = outputs[0]
    for output in outputs[1:]:
        total = total + output
    return total / len(outputs)
