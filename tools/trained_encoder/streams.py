"""The same audio through the trained encoder in several ways: at once, in upstream's windows, and in rvcd's own streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.units import UnitKind, UnitStreams
from rvcd.geometry import ENCODER_HOP_SAMPLES, FRAMES_PER_UNIT, LOUDNESS_FRAMES, StreamGeometry
from rvcd.nets.contentvec import ContentEncoder

UPSTREAM_CONTEXT_UNITS = 125
"""2.5 s before the block."""
Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Way:
    """How units are made. block_ms 0: all at once. lookahead_ms: as latency.lookahead_ms; the loudness match takes 20 of them.

    context_ms: as latency.context_ms. revised_ms: of "remembered", how much of what is final is gone over again for each block,
    and remembered only then; it is part of the context.
    """

    name: str
    block_ms: int = 0
    lookahead_ms: int = 20
    context_ms: int = 1000
    revised_ms: int = 0

    @property
    def geometry(self) -> StreamGeometry:
        block, lookahead = self.block_ms // 10, self.lookahead_ms // 10
        return StreamGeometry(16_000, block, lookahead, self.context_ms // 10 - block - lookahead, 1)


@dataclass
class Heard:
    """units (N, width); block_ms: what the encoder took for each block."""

    units: Tensor
    block_ms: list[float] = field(default_factory=list)


@dataclass
class Taker:
    encoder: ContentEncoder
    unit_kind: UnitKind


def hear(encoder: ContentEncoder, way: Way, audio: Audio) -> Heard:
    """Return the units of audio (samples,) at 16 kHz, those that a stream has finished by its end."""
    with torch.inference_mode():
        return WAYS[way.name](encoder, way, audio)


def _at_once(encoder: ContentEncoder, way: Way, audio: Audio) -> Heard:
    return Heard(encoder.units(torch.from_numpy(audio)[None], unit_width=encoder.sizes.width)[0])


def _streamed_front_end(encoder: ContentEncoder, way: Way, audio: Audio) -> Heard:
    """Only the front end in blocks, with its norm's running moments; the transformer sees everything."""
    return Heard(encoder.encode(stream_features(encoder, way, audio))[0])


def stream_features(encoder: ContentEncoder, way: Way, audio: Audio) -> Tensor:
    from rvcd.engine.units import STATISTICS_MEMORY_S

    state, block, parts = encoder.start_front_end(STATISTICS_MEMORY_S), way.block_ms // 20, []
    heard = torch.from_numpy(audio)[None]
    for first in range(0, (len(audio) - 80) // 320, block):
        piece = heard[:, 320 * first : 320 * (first + block) + 80]
        if piece.shape[1] >= 400:
            parts.append(encoder.front_end(piece, state))
    return torch.cat(parts, dim=1)


def _upstream(encoder: ContentEncoder, way: Way, audio: Audio) -> Heard:
    """Front end and transformer over 2.5 s, the block and the lookahead, again for each block."""
    units, spent_ms = [], []
    ahead = (way.lookahead_ms // 10 - LOUDNESS_FRAMES) * ENCODER_HOP_SAMPLES
    block, past = way.block_ms // 10 * ENCODER_HOP_SAMPLES, UPSTREAM_CONTEXT_UNITS * 320
    for start in range(0, len(audio) - block - ahead + 1, block):
        first = max(0, start - past)
        window = torch.from_numpy(audio[first : start + block + ahead])[None]
        began = time.process_time()
        made = encoder.units(window, unit_width=encoder.sizes.width)[0] if window.shape[1] >= 400 else None
        spent_ms.append(1000 * (time.process_time() - began))
        if made is None:
            made = torch.zeros(1, encoder.sizes.width)
        made = torch.cat((made, made[-1:].expand(2, -1)))  # upstream repeats the newest unit
        units.append(made[(start - first) // 320 :][: block // 320])
    return Heard(torch.cat(units), spent_ms)


def _stream(window: bool) -> Callable[[ContentEncoder, Way, Audio], Heard]:
    def hear(encoder: ContentEncoder, way: Way, audio: Audio) -> Heard:
        geometry = way.geometry
        streams = UnitStreams(encoder, geometry, torch.device("cpu"), window=window)
        taker = Taker(encoder, UnitKind(encoder.sizes.width))
        rows, spent_ms, made = [], [], 0
        for end, block in _blocks(audio, geometry):
            streams.push(block)
            settled = max(0, end - geometry.settle_frames) // FRAMES_PER_UNIT * FRAMES_PER_UNIT
            began = time.process_time()
            frames = streams.per_frame(made, end, taker)
            spent_ms.append(1000 * (time.process_time() - began))
            rows.append(frames[: settled - made : FRAMES_PER_UNIT])
            made = settled
        return Heard(torch.cat(rows), spent_ms)

    return hear


def _remembered(encoder: ContentEncoder, way: Way, audio: Audio) -> Heard:
    """Remember keys and values, at once as the engine does, or later, when they have seen more of what comes after them."""
    if not way.revised_ms:
        return _stream(window=False)(encoder, way, audio)
    geometry, features = way.geometry, stream_features(encoder, way, audio)
    state = encoder.start_units(encoder.sizes.width, (geometry.context_frames - way.revised_ms // 10) // FRAMES_PER_UNIT)
    rows, spent_ms, made, kept = [], [], 0, 0
    for end, _ in _blocks(audio, geometry):
        full = (end * ENCODER_HOP_SAMPLES - 400) // 320 + 1
        settled = min(full, max(0, end - geometry.settle_frames) // FRAMES_PER_UNIT)
        keep = max(kept, settled - way.revised_ms // 20)
        if full <= kept:
            continue
        began = time.process_time()
        units = encoder.step(features[:, kept:full], state, keep - kept)[0]
        spent_ms.append(1000 * (time.process_time() - began))
        rows.append(units[made - kept : settled - kept])
        made, kept = settled, keep
    return Heard(torch.cat(rows), spent_ms)


def _blocks(audio: Audio, geometry: StreamGeometry) -> Iterator[tuple[int, Audio]]:
    size = geometry.block_frames * ENCODER_HOP_SAMPLES
    for count in range(1, len(audio) // size + 1):
        yield count * geometry.block_frames, audio[(count - 1) * size : count * size]


WAYS: dict[str, Callable[[ContentEncoder, Way, Audio], Heard]] = {
    "offline": _at_once,
    "front end streamed": _streamed_front_end,
    "upstream": _upstream,
    "remembered": _remembered,
    "window": _stream(window=True),
}
