"""The generator's decoder as a stream: every convolution keeps the left samples it needs, nothing is crossfaded.

Two kinds of stages:
- *lookahead stages* (the first, at 10 ms resolution, where 60 positions of reach would cost 60 ms of delay): they also see
  provisional future frames, whose results are thrown away and computed again when those frames are final;
- *delayed stages* (all others): exact carried state. Output comes `tail_samples` later than its input.

With at least `exact_lookahead_frames` future frames the samples equal the offline decoder's to rounding, however the
frames are cut into steps; with fewer, the difference falls by about 10 dB a frame.

Tensors here are (1, C, 1, T), channels-last: rvcd.engine.decoder_layers says why. What lies between the convolutions is float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.block_steps import BlockSteps, rows_of
from rvcd.engine.decoder_layers import Convolution, DecoderLayers, Pairs, Upsample, block_reach, reach
from rvcd.nets.packed import PackedConv
from rvcd.nets.rolling_buffer import Homes, Past
from rvcd.nets.steps import Steps
from rvcd.nets.synthesizer import LRELU_SLOPE
from rvcd.nets.tiled_conv import empty_rows
from rvcd.yielding import yield_point

MAX_TAIL_MS = 15.0
"""Stages are run with lookahead until what the rest adds is at most this."""
UNDER_WAY_FRAMES = 4
"""More than any convolution reaches beyond the tail."""
FAST_LOOKAHEAD_FRAMES = 7
"""Enough in bfloat16: more improve nothing, 4 cost 10 dB (measured on strong random residual blocks)."""


@dataclass(frozen=True)
class Span:
    """The positions that exist: 0 up to `end` (None: not known yet). Offline pads with zeros outside, so do we."""

    end_frames: int | None = None

    def is_inside(self, first: int) -> bool:
        """Say whether all positions from `first` on are known to exist."""
        return first >= 0 and self.end_frames is None

    def clear_outside(self, x: Tensor, first: int, per_frame: int) -> Tensor:
        """Zero what lies outside, where x[..., 0] is at position `first` of a layer with per_frame positions a frame."""
        length = x.shape[-1]
        if first < 0:
            x[..., : min(-first, length)] = 0
        if self.end_frames is not None:
            x[..., max(self.end_frames * per_frame - first, 0) :] = 0
        return x


class History:
    """The newest `length` positions of one layer's input, (1, C, 1, T) channels-last."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._past = Past(length, 3, zeros=True, channels_last=True)

    def reset(self, like: Tensor) -> None:
        """Start with zeros."""
        self._past.reset()

    def extend(self, x: Tensor, advance: int) -> Tensor:
        """Return history followed by x, and remember the newest positions up to x[..., advance - 1]."""
        return self._past.extend(x, advance)

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept; None before the first step."""
        return [self._past.tensor]


class LookaheadConv:
    """Same-length convolution over [new | provisional]; zeros stand beyond the provisional end."""

    def __init__(self, conv: PackedConv) -> None:
        self.conv, self.reach = conv, reach(conv)
        self.history = History(self.reach)

    def step(self, x: Tensor, advance: int) -> Tensor:
        return self.conv(F.pad(self.history.extend(x.to(self.conv.dtype), advance), (0, self.reach)))


class Carried:
    """One layer's input: `length` positions before this step's, this step's, and `beyond` zeros, in one buffer that is kept."""

    def __init__(self, length: int, channels: int, beyond: int = 0, dtype: torch.dtype = torch.float32) -> None:
        self.length, self.channels, self.beyond, self.dtype = length, channels, beyond, dtype
        self.buffer = torch.zeros(0)
        self._homes = Homes()

    def reset(self, like: Tensor) -> None:
        """Start with zeros, on the device of `like`."""
        with torch.inference_mode():
            if self.buffer.dim() != 4 or self.buffer.device != like.device:
                self.buffer = self._empty(0, like.device)
            self.buffer[..., : self.length].zero_()

    def tensors(self) -> list[Tensor | None]:
        """Where it is kept."""
        return [self.buffer]

    def room(self, count: int) -> Tensor:
        """Return the buffer, (1, C, 1, length + count + beyond), for this step's `count` positions to be written into."""
        size = self.length + count + self.beyond
        if self.buffer.shape[3] != size:
            head = self.buffer[..., : self.length]
            home = self._homes.get(size, head)
            self.buffer = self._empty(count, head.device) if home is None else home
            self.buffer[..., : self.length] = head
            self.buffer[..., self.length + count :] = 0
            self._homes.put(size, self.buffer)
        return self.buffer

    def fresh(self, count: int) -> Tensor:
        """Return this step's part of the buffer, (1, C, 1, count)."""
        return self.room(count)[..., self.length : self.length + count]

    def keep(self, advance: int) -> None:
        """Move the `length` positions up to this step's position `advance` to the front: this step is over."""
        newest = self.buffer[..., advance : advance + self.length]
        self.buffer[..., : self.length] = newest if advance >= self.length else newest.clone()

    def _empty(self, count: int, device: torch.device) -> Tensor:
        size = (1, 1, self.length + count + self.beyond, self.channels)
        return torch.empty(size, dtype=self.dtype, device=device).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class LookaheadPair:
    """Two convolutions and their residual. entered: the first one's input. between: the second one's, activated."""

    dilated: Convolution
    plain: Convolution
    entered: Carried
    between: Carried

    @classmethod
    def of(cls, dilated: Convolution, plain: Convolution) -> LookaheadPair:
        ahead, behind = reach(dilated), reach(plain)
        between = Carried(behind, plain.channels_in, behind, plain.dtype)
        return cls(dilated, plain, Carried(ahead, dilated.channels_in, ahead), between)


class LookaheadResBlock:
    """A residual block over [new | provisional], no delay. The residual path stays float32."""

    def __init__(self, pairs: Pairs, slope: float = LRELU_SLOPE) -> None:
        self.slope = slope
        self.pairs = [LookaheadPair.of(dilated, plain) for dilated, plain in pairs]
        self._carried = [carried for pair in self.pairs for carried in (pair.entered, pair.between)]
        self._steps = BlockSteps(pairs)

    def carried(self) -> list[Carried]:
        return self._carried

    def step(self, x: Tensor, advance: int, first: int, per_frame: int, span: Span) -> Tensor:
        length = x.shape[3]
        self.pairs[0].entered.fresh(length).copy_(x)
        if self._steps.usable and span.is_inside(first):
            x = self._steps.run(length, [carried.room(length) for carried in self._carried], partial(self._list, length))
            yield_point()
        else:
            x = self._one_by_one(length, first, per_frame, span)
        for carried in self.carried():
            carried.keep(advance)
        return x

    def _list(self, length: int, steps: Steps) -> Tensor:
        result = empty_rows(self.pairs[0].entered.channels, length)
        for i, (pair, (dilated, plain)) in enumerate(zip(self.pairs, self._steps.convolutions(), strict=True)):
            between, target = pair.between.fresh(length), result
            if i + 1 < len(self.pairs):
                target = self.pairs[i + 1].entered.fresh(length)
            entered, residual = rows_of(pair.entered.room(length)), rows_of(pair.entered.fresh(length))
            steps.conv(dilated, entered, rows_of(between), entering=self.slope, leaving=self.slope)
            steps.conv(plain, rows_of(pair.between.room(length)), rows_of(target), residual=residual)
        return result

    def _one_by_one(self, length: int, first: int, per_frame: int, span: Span) -> Tensor:
        x = self.pairs[0].entered.fresh(length)
        for i, pair in enumerate(self.pairs):
            entered, between = pair.entered.room(length), pair.between.fresh(length)
            pair.dilated.run(entered, entering=self.slope, leaving=self.slope, out=between)
            yield_point()
            span.clear_outside(between, first, per_frame)
            target = self.pairs[i + 1].entered.fresh(length) if i + 1 < len(self.pairs) else None
            residual = pair.entered.fresh(length)
            x = pair.plain.run(pair.between.room(length), residual=residual, out=target)
            span.clear_outside(x, first, per_frame)
            yield_point()
        return x


@dataclass(frozen=True)
class DelayedPair:
    """Two convolutions and their residual. before, after: how late input and output are against the stage's input."""

    dilated: Convolution
    plain: Convolution
    before: int
    after: int
    carried: Carried | None
    """Its input; None for a block's first pair, which reads the stage's."""


class DelayedStage:
    """The residual blocks of one upsampling, with exact carried state; their mean comes `delay` positions late.

    A pair takes its input twice its reach back, so the values between its two convolutions need no state of their own.
    """

    def __init__(self, blocks: list[Pairs], channels: int, slope: float = LRELU_SLOPE) -> None:
        self.slope = slope
        self.delay = max(block_reach(pairs) for pairs in blocks)
        self.blocks: list[list[DelayedPair]] = []
        for pairs in blocks:
            # Shorter blocks start later, so that all end together.
            before = self.delay - block_reach(pairs)
            block: list[DelayedPair] = []
            for dilated, plain in pairs:
                after = before + reach(dilated) + reach(plain)
                carried = Carried(2 * (after - before), channels) if block else None
                block.append(DelayedPair(dilated, plain, before, after, carried))
                before = after
            self.blocks.append(block)
        self.input = Carried(max(2 * block[0].after - block[0].before for block in self.blocks), channels)
        self._steps = [BlockSteps(pairs) for pairs in blocks]
        self._deepest = max((pair.after + reach(pair.plain) for block in self.blocks for pair in block), default=0)
        self._total = torch.zeros(0)

    def carried(self) -> list[Carried]:
        return [self.input, *(pair.carried for block in self.blocks for pair in block if pair.carried is not None)]

    def step(self, length: int, first: int, per_frame: int, span: Span) -> Tensor:
        """Take the `length` positions from `first` on that the caller has written to the end of self.input.room(length)."""
        if span.is_inside(first - self._deepest) and all(steps.usable for steps in self._steps):
            total = self._listed(length)
        else:
            total = self._one_by_one(length, first, per_frame, span)
        for carried in self.carried():
            carried.keep(length)
        return span.clear_outside(total, first - self.delay, per_frame)

    def _listed(self, length: int) -> Tensor:
        if self._total.dim() != 4 or self._total.shape[3] != length:
            self._total = empty_rows(self.input.channels, length)
        for number, (block, steps) in enumerate(zip(self.blocks, self._steps, strict=True)):
            rooms = [pair.carried.room(length) for pair in block if pair.carried is not None]
            steps.run(length, (self._total, self.input.room(length), *rooms), partial(self._list, number, length))
            yield_point()
        return self._total

    def _list(self, number: int, length: int, steps: Steps) -> Tensor:
        """Fill a block's list, which adds to the stage's mean."""
        block, convs = self.blocks[number], list(self._steps[number].convolutions())
        lengths = [length + 2 * reach(plain) for _, plain in convs]
        between = rows_of(empty_rows(convs[0][0].channels_out, max(lengths, default=length)))
        for i, (pair, (dilated, plain)) in enumerate(zip(block, convs, strict=True)):
            reach_here, carried = pair.after - pair.before, self.input if pair.carried is None else pair.carried
            start = self.input.length - pair.before - 2 * reach_here if pair.carried is None else 0
            x, y = rows_of(carried.room(length))[start : start + 2 * reach_here + length], between[: lengths[i]]
            residual = x[reach_here : reach_here + length]
            steps.conv(dilated, x, y, entering=self.slope, leaving=self.slope)
            if i + 1 < len(block):
                following = block[i + 1].carried
                assert following is not None
                steps.conv(plain, y, rows_of(following.fresh(length)), residual=residual)
            else:
                scale = 1.0 / len(self.blocks) if number == len(self.blocks) - 1 else 1.0
                steps.conv(plain, y, rows_of(self._total), residual=residual, accumulate=number > 0, scale=scale)
        return self._total

    def _one_by_one(self, length: int, first: int, per_frame: int, span: Span) -> Tensor:
        total: Tensor | None = None
        entered = self.input.room(length)
        shared: Tensor | None = None
        for number, block in enumerate(self.blocks):
            for i, pair in enumerate(block):
                reach_here, last = pair.after - pair.before, i == len(block) - 1
                x = entered if pair.carried is None else pair.carried.room(length)
                start = self.input.length - pair.before - 2 * reach_here if pair.carried is None else 0
                used = slice(start, start + 2 * reach_here + length)
                if pair.carried is None and isinstance(pair.dilated, PackedConv) and pair.dilated.own is None:
                    # One activation of the stage's input for all of its blocks.
                    shared = F.leaky_relu(entered.to(pair.dilated.dtype), self.slope) if shared is None else shared
                    y = pair.dilated.run(shared[..., used], leaving=self.slope)
                else:
                    y = pair.dilated.run(x[..., used], entering=self.slope, leaving=self.slope)
                yield_point()
                span.clear_outside(y, first - pair.after - reach(pair.plain), per_frame)
                residual = x[..., start + reach_here : start + reach_here + length]
                if not last:
                    following = block[i + 1].carried
                    assert following is not None
                    target = pair.plain.run(y, residual=residual, out=following.fresh(length))
                    span.clear_outside(target, first - pair.after, per_frame)
                else:
                    scale = 1.0 / len(self.blocks) if number == len(self.blocks) - 1 else 1.0
                    total = pair.plain.run(y, residual=residual, out=total, accumulate=total is not None, scale=scale)
                yield_point()
        assert total is not None
        return total


class UpsampleStream:
    """An activation and a transposed convolution as a stream."""

    def __init__(self, up: Upsample) -> None:
        self.up = up
        self.history = History(up.taps - 1)

    def step(self, x: Tensor, advance: int, *, delayed: bool) -> Tensor:
        """x.shape[-1] * stride positions: those of x itself, or, when delayed, `pad` positions earlier (exact)."""
        yield_point()
        up, length = self.up, x.shape[-1] * self.up.stride
        seen = self.history.extend(x, advance)
        if delayed:
            return up.positions(seen, LRELU_SLOPE)
        return up.positions(F.pad(seen, (0, -(-up.pad // up.stride))), LRELU_SLOPE)[..., up.pad : up.pad + length]


@dataclass
class DecoderState:
    """Where the stream is. The layers' histories lie with the layers; StreamingDecoder.reset() clears all."""

    frames: int = 0


class StreamingDecoder:
    """A stateful generator. One instance holds one stream; the layers are shared.

    tail_samples: how much later than its frames the output comes, at the voice's rate.
    exact_lookahead_frames: provisional frames from which on the result equals the offline decoder's.
    lookahead_frames: provisional frames worth giving it: more cost time and change nothing that its numbers could hold.
    """

    def __init__(self, layers: DecoderLayers, speaker: Tensor) -> None:
        """speaker (1, gin, 1)."""
        self.layers, self.hop, self.taps = layers, layers.hop, layers.taps
        self.pre = LookaheadConv(layers.pre)
        self.condition = layers.condition(speaker)
        self.ups = [UpsampleStream(up) for up in layers.ups]
        self.post_history = History(2 * reach(layers.post))
        self.per_frame = layers.per_frame
        self.lookahead_stages = self._choose_lookahead_stages([[block_reach(b) for b in stage] for stage in layers.stages])
        self.ahead = [[LookaheadResBlock(b) for b in stage] for stage in layers.stages[: self.lookahead_stages]]
        self.delayed = [
            DelayedStage(layers.stages[i], layers.ups[i].channels_out) for i in range(self.lookahead_stages, len(layers.stages))
        ]
        self.delays = self._delays([stage.delay for stage in self.delayed])
        self.tail_samples = self.delays[-1] + reach(layers.post)
        self.exact_lookahead_frames = self._exact_lookahead_frames()
        self.lookahead_frames = self.exact_lookahead_frames
        if layers.dtype is not torch.float32:
            self.lookahead_frames = min(FAST_LOOKAHEAD_FRAMES, self.exact_lookahead_frames)
        rates = self.per_frame[self.lookahead_stages :]
        source_samples = max(2 * self.hop, *((d + 2) * (self.hop // n) for d, n in zip(self.delays, rates, strict=False)))
        self.source_history = History(source_samples)
        self.state = DecoderState()
        self.reset()

    def _choose_lookahead_stages(self, delays: list[list[int]]) -> int:
        """Return the smallest count (at least 1) of lookahead stages that keeps the tail under MAX_TAIL_MS."""
        for count in range(1, len(delays)):
            pads = [up.pad for up in self.layers.ups]
            tail_ms = sum(10.0 * (max(delays[i]) + pads[i]) / self.per_frame[i] for i in range(count, len(delays)))
            if tail_ms <= MAX_TAIL_MS:
                return count
        return len(delays)

    def _delays(self, block_delays: list[int]) -> list[int]:
        """Return the delay before the residual blocks of each delayed stage, then that after the last, in own positions."""
        delays, delay = [], 0
        for up, block_delay in zip(self.layers.ups[self.lookahead_stages :], block_delays, strict=True):
            delay = delay * up.stride + up.pad
            delays.append(delay)
            delay += block_delay
        return [*delays, delay]

    def _exact_lookahead_frames(self) -> int:
        frames = float(self.pre.reach)
        for i, stage in enumerate(self.layers.stages[: self.lookahead_stages]):
            frames += (self.layers.ups[i].pad + max(block_reach(block) for block in stage)) / self.per_frame[i]
        return math.ceil(frames)

    def reset(self, first_frame: int = 0) -> None:
        """Forget everything. The next step's first frame is number first_frame of its stream; those before count as absent."""
        for history in self._histories():
            history.reset(self.condition)
        self.state = DecoderState(first_frame)

    def _histories(self) -> list[History | Carried]:
        histories: list[History | Carried] = [self.pre.history, self.post_history, *(up.history for up in self.ups)]
        histories += [carried for stage in self.ahead for block in stage for carried in block.carried()]
        histories += [carried for stage in self.delayed for carried in stage.carried()]
        return [*histories, self.source_history]

    @property
    def is_under_way(self) -> bool:
        """Whether the next step reaches nothing before the stream's beginning: steps differ in nothing but their inputs then."""
        return self.state.frames >= UNDER_WAY_FRAMES + math.ceil(self.tail_samples / self.hop)

    def tensors(self) -> list[Tensor | None]:
        """Where the stream is kept; None before the first step."""
        return [tensor for history in self._histories() for tensor in history.tensors()]

    @torch.inference_mode()
    def step(self, z: Tensor, source: Tensor | None, frames: int, *, end_frame: int | None = None) -> Tensor:
        """Take `frames` new frames and return their hop * frames samples, tail_samples late.

        z (1, inter, frames + provisional), source (1, 1, (frames + provisional) * hop) after the merge or None for a voice
        without f0. Positions in the stream count from frame 0: what lies before it, or from end_frame on, is padding.
        To flush the end, step with zero frames of z while end_frame stays where the stream ended.
        """
        samples = self.run(z, source, frames, [], end_frame=end_frame)
        self.state.frames += frames
        return samples

    def noise_inputs(self, frames: int, total: int) -> list[NDArray[Any]]:
        """Return what run() is given for a step of `frames` frames, `total` with the provisional ones: nothing here."""
        return []

    def run(self, z: Tensor, source: Tensor | None, frames: int, noise: list[Tensor], *, end_frame: int | None = None) -> Tensor:
        """As step(), but state.frames, which no tensor knows, stays. noise: noise_inputs() on the device."""
        first, span, total = self.state.frames, Span(end_frame), z.shape[-1]
        tapped, tapped_first = self._remember_source(source, frames, first, total)

        z = z.unsqueeze(2).clone(memory_format=torch.channels_last)
        x = self.pre.step(span.clear_outside(z, first, 1), frames)
        x = span.clear_outside(x + self.condition, first, 1)
        advance = frames
        for i, stage in enumerate(self.ahead):
            per_frame = self.per_frame[i]
            x = self.ups[i].step(x, advance, delayed=False)
            if self.taps:
                x = x + self.taps[i].positions(tapped, tapped_first, first * per_frame, total * per_frame)
            x = span.clear_outside(x, first * per_frame, per_frame)
            advance = frames * per_frame
            x = _mean([block.step(x, advance, first * per_frame, per_frame, span) for block in stage])
        x = x[..., :advance]

        for i, (delayed, delay) in enumerate(zip(self.delayed, self.delays, strict=False), start=self.lookahead_stages):
            per_frame = self.per_frame[i]
            x = self.ups[i].step(x, x.shape[-1], delayed=True)
            length, position = x.shape[-1], first * per_frame - delay
            entered = delayed.input.fresh(length)
            if self.taps:
                torch.add(x, self.taps[i].positions(tapped, tapped_first, position, length), out=entered)
            else:
                entered.copy_(x)
            span.clear_outside(entered, position, per_frame)
            x = delayed.step(length, position, per_frame, span)

        x = self.post_history.extend(F.leaky_relu(x), x.shape[-1])
        return torch.tanh(self.layers.post(x)).reshape(-1)

    def _remember_source(self, source: Tensor | None, frames: int, first: int, total: int) -> tuple[Tensor, int]:
        """Return the excitation including its history, and the sample number of its first value."""
        if not self.taps:
            return self.condition, 0
        if source is None or source.shape[-1] != total * self.hop:
            raise ValueError(f"this voice needs an excitation of {total * self.hop} samples")
        joined = self.source_history.extend(source.unsqueeze(2), frames * self.hop)
        return joined, first * self.hop - self.source_history.length


def _mean(outputs: list[Tensor]) -> Tensor:
    total = outputs[0]
    for output in outputs[1:]:
        total = total + output
    return total * (1.0 / len(outputs))
