"""A voice's flow as steps of the C kernels: rvcd.nets.synthesizer.Flow in float32 on a processor.

The flow turns its channels round before each coupling. Here the two halves stay where they are: every second coupling has its
weights turned round instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvcd.nets.steps import Steps
from rvcd.nets.tiled_conv import TiledConv
from rvcd.yielding import yield_point


@dataclass(frozen=True)
class Layer:
    """One of a coupling's WaveNet: convolution, gate, and the paths to the next layer (None for the last) and to the result."""

    conv: TiledConv
    onward: TiledConv | None
    skip: TiledConv


@dataclass(frozen=True)
class CouplingWeights:
    """One coupling, from the half that it reads to what is added to the other.

    condition: speaker -> (1, 2 * hidden * layers, 1).
    """

    pre: TiledConv
    layers: list[Layer]
    post: TiledConv
    condition: Callable[[Tensor], Tensor]

    @classmethod
    def of(
        cls, pre: nn.Conv1d, convs: Sequence[nn.Conv1d], res_skips: Sequence[nn.Conv1d], post: nn.Conv1d,
        condition: Callable[[Tensor], Tensor], *, turned: bool,
    ) -> CouplingWeights:  # fmt: skip
        """Prepare plain weights. turned: for halves whose channels lie the other way round."""
        assert post.bias is not None
        hidden, layers = post.in_channels, []
        for conv, both in zip(convs, res_skips, strict=True):
            yield_point()
            assert both.bias is not None
            onward = TiledConv(both.weight[:hidden], both.bias[:hidden], narrow=True) if both.out_channels > hidden else None
            skip = TiledConv(both.weight[-hidden:], both.bias[-hidden:], narrow=True)
            layers.append(Layer(TiledConv(conv.weight, conv.bias, narrow=True), onward, skip))
        read = pre.weight.flip(1) if turned else pre.weight
        made, made_bias = (-post.weight.flip(0), -post.bias.flip(0)) if turned else (-post.weight, -post.bias)
        return cls(TiledConv(read, pre.bias, narrow=True), layers, TiledConv(made, made_bias, narrow=True), condition)


class _Made:
    """The lists for one number of frames and one speaker. halves: of the latents, rows (T, channels / 2)."""

    def __init__(self, couplings: Sequence[CouplingWeights], frames: int, speaker: Tensor) -> None:
        first, self.frames, self.speaker = couplings[0], frames, speaker.clone()
        hidden, kernel = first.post.channels_in, first.layers[0].conv.kernel
        reach = kernel // 2
        self.halves = torch.empty((2, frames, first.pre.channels_in))
        padded = torch.zeros((frames + 2 * reach, hidden))  # zeros stand beyond both ends, for every layer
        both, gated, skipped = (torch.empty((frames, n)) for n in (2 * hidden, hidden, hidden))
        x = padded[reach : reach + frames]
        self.steps: list[Steps] = []
        for number, coupling in enumerate(couplings):
            read, changed = self.halves[1 - number % 2], self.halves[number % 2]
            conditions = coupling.condition(speaker).float().reshape(len(coupling.layers), 2 * hidden).clone()
            steps = Steps()
            steps.conv(coupling.pre, read, x)
            for i, layer in enumerate(coupling.layers):
                steps.conv(layer.conv, padded, both)
                steps.gate(both, gated, conditions[i])
                if layer.onward is not None:
                    steps.conv(layer.onward, gated, x, accumulate=True, together=True)
                steps.conv(layer.skip, gated, skipped, accumulate=i > 0)
            steps.conv(coupling.post, skipped, changed, accumulate=True)
            self.steps.append(steps)


class _OfThread(threading.local):
    made: _Made | None = None


class FlowSteps:
    """z_p -> z, as the flow computes them."""

    def __init__(self, couplings: Sequence[CouplingWeights]) -> None:
        """couplings: an even number, in the order in which they are applied, the first one and every second turned."""
        self._couplings, self._of_thread = couplings, _OfThread()

    def __call__(self, z_p: Tensor, speaker: Tensor) -> Tensor:
        """z_p (1, inter, T), speaker (1, gin, 1) -> z (1, inter, T)."""
        _, inter, frames = z_p.shape
        if frames == 0:
            return z_p.clone()
        made = self._of_thread.made
        if made is None or made.frames != frames or not torch.equal(made.speaker, speaker):
            made = self._of_thread.made = _Made(self._couplings, frames, speaker)
        made.halves.copy_(z_p[0].view(2, inter // 2, frames).transpose(1, 2))
        for steps in made.steps:
            steps.run()
            yield_point()
        return made.halves.transpose(1, 2).reshape(1, inter, frames)
