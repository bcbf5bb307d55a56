"""One voice as a stream: rows of units and pitch in, samples at the stream's rate out, each frame synthesised once.

Frames are numbered from the start of the stream. *Final* frames never change; *provisional* ones (the lookahead) serve as
the right-hand context of the final ones and are computed again. A formant shift by the factor k decodes the voice on a
stretched clock with k frames for each real one, then plays it back k times as fast (RVC's formant shift); with k = 1 the
stretched clock is the real one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.decoder import StreamingDecoder
from rvcd.engine.decoder_layers import DecoderLayers
from rvcd.engine.device_link import LinkMaker, link_to
from rvcd.engine.dsp.history_buffer import HistoryBuffer
from rvcd.engine.dsp.noise import frame_noise
from rvcd.engine.dsp.resample import interpolate, kernel_for
from rvcd.engine.graphs import Graphs, Step
from rvcd.engine.pitch import coarse_pitch
from rvcd.engine.refinegan_decoder import RefineDecoder
from rvcd.engine.refinegan_layers import RefineLayers
from rvcd.engine.retrieval import UnitIndex, blend
from rvcd.engine.source_filter_decoder import SourceFilterDecoder, SourceFilterLayers
from rvcd.engine.stopwatch import Stopwatch
from rvcd.engine.units import ContentEncoder, UnitKind
from rvcd.formats.voice_file import VoiceSpec
from rvcd.geometry import FRAMES_PER_UNIT, StreamGeometry
from rvcd.nets.conv_ways import Ways
from rvcd.nets.excitation import Excitation, SourceState
from rvcd.nets.packed import worth_packing
from rvcd.nets.refinegan import RefineGan
from rvcd.nets.rolling_buffer import Past, RollingBuffer
from rvcd.nets.source_filter import SourceFilter, UnitsAsLatents
from rvcd.nets.synthesizer import PRIOR_NOISE_SCALE, LayerMemory, PriorMemory, Synthesizer
from rvcd.yielding import yield_point

WARM_UP_FRAMES = 12
"""Frames decoded and thrown away before a (re)start, so that the decoder's left context (11.4 frames) is real."""
KEPT_LATENT_FRAMES = 2 * WARM_UP_FRAMES
FAST_FLOW_FRAMES = 8
"""The flow's left context in bfloat16: beyond 5 frames its influence is below 1e-5 (24 frames are exact)."""
PRIOR_CONTEXT_FRAMES = 8
"""enc_p's convolutions reach 6 frames; of what it attends to further back nothing can be had cheaply."""
PRIOR_STREAM, SOURCE_STREAM = 0, 1
"""Independent noise sequences."""


Layers = DecoderLayers | RefineLayers | SourceFilterLayers
Decoder = StreamingDecoder | RefineDecoder | SourceFilterDecoder


def layers_of(generator: torch.nn.Module, precision: torch.dtype, ways: Ways | None) -> Layers:
    """Return what the streams of a generator share."""
    if isinstance(generator, SourceFilter):
        return SourceFilterLayers.of(generator, precision)
    if isinstance(generator, RefineGan):
        return RefineLayers.of(generator, precision, ways)
    return DecoderLayers.of(generator, precision, ways)  # type: ignore[arg-type]  # the only kind left


def start_decoder(layers: Layers, speaker: Tensor, seed: int) -> Decoder:
    """Return a stream of them. speaker (1, gin, 1)."""
    if isinstance(layers, SourceFilterLayers):
        return SourceFilterDecoder(layers)
    return RefineDecoder(layers, speaker, seed) if isinstance(layers, RefineLayers) else StreamingDecoder(layers, speaker)


@dataclass(frozen=True)
class Voice:
    """A loaded voice: networks and, if it has one, the index of its units.

    synthesizer: enc_p, flow and speakers; its own decoder is only there when it is kept (see of()). encoder: makes its units;
    None: the stream's own does.
    """

    name: str
    spec: VoiceSpec
    synthesizer: Synthesizer
    decoder: Layers
    index: UnitIndex | None = None
    encoder: ContentEncoder | None = None
    precision: torch.dtype = torch.float32
    """Of the prior and the flow; the decoder has its own."""

    @property
    def rows_alike(self) -> int:
        """How many frames in a row have the same unit: two, but of an encoder that tells each frame something else."""
        return 1 if isinstance(self.synthesizer.enc_p, UnitsAsLatents) else FRAMES_PER_UNIT

    @property
    def unit_kind(self) -> UnitKind:
        """Which units it takes."""
        return UnitKind(self.synthesizer.config.unit_width, self.spec.unit_layer)

    @classmethod
    def of(
        cls, name: str, spec: VoiceSpec, synthesizer: Synthesizer, index: UnitIndex | None = None,
        encoder: ContentEncoder | None = None, *, precision: torch.dtype = torch.float32,
        decoder_precision: torch.dtype | None = None, keep_decoder: bool = True, ways: Ways | None = None,
    ) -> Voice:  # fmt: skip
        """Prepare a synthesizer for streaming. enc_p and flow are packed in place where that is worth it.

        decoder_precision: what its residual blocks may be rounded to; None: to precision.

        ways: how the decoder's convolutions are computed; None: directly.
        keep_decoder False: free the decoder's plain weights, which then cannot run offline.
        """
        decoder = layers_of(synthesizer.dec, decoder_precision or precision, ways)
        if not keep_decoder:
            del synthesizer.dec
        if worth_packing(precision, str(synthesizer.emb_g.weight.device)):
            synthesizer.enc_p.pack(precision)
            synthesizer.flow.pack(precision)
        return cls(name, spec, synthesizer, decoder, index, encoder, precision)


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames. units (T, unit_width), f0_hz (T,) transposed, voiced (T,) bool, formant (T,) semitones.

    first: number of the first frame. final: how many, counted from the first, will not change any more. share (T,): how much of
    what the voice's index has is taken, 0..1; None: nothing.
    """

    first: int
    final: int
    units: Tensor
    f0_hz: NDArray[np.float32]
    voiced: NDArray[np.bool_]
    formant: NDArray[np.float32]
    share: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Join:
    """How new frames join those that are there: from `start` to `end` these stay, and of the new ones all but `skipped`."""

    start: int
    end: int
    skipped: int


@dataclass
class Latents:
    """Latents and pitch of consecutive frames, the newest provisional. z: (inter, T), on the networks' device."""

    first: int = 0
    z: RollingBuffer = field(default_factory=lambda: RollingBuffer(1))
    f0_hz: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    voiced: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    factor: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))

    @property
    def end(self) -> int:
        return self.first + len(self.factor)

    def clear(self) -> None:
        self.first, self.f0_hz, self.voiced, self.factor = 0, self.f0_hz[:0], self.voiced[:0], self.factor[:0]
        self.z.clear()

    def join(self, first: int, since: int) -> Join:
        """Return how frames from `first` on join: in the place of all that follows, and nothing before `since` stays."""
        kept = min(max(0, first - self.first), len(self.factor))
        cut = max(0, since - (self.first if kept else first))
        return Join(min(cut, kept), kept, max(0, cut - kept))

    def take(self, join: Join, batch: FrameBatch, factor: NDArray[np.float64]) -> None:
        """Take the pitch of new frames, whose latents lie in z already. factor (T,): see StreamState.edges."""
        kept, fresh = slice(join.start, join.end), slice(join.skipped, None)
        self.first = (self.first if join.end else batch.first) + join.start + join.skipped
        self.f0_hz = np.concatenate((self.f0_hz[kept], batch.f0_hz[fresh]))
        self.voiced = np.concatenate((self.voiced[kept], batch.voiced[fresh]))
        self.factor = np.concatenate((self.factor[kept], factor[fresh]))


@dataclass
class StreamState:
    """Everything a voice's stream carries from block to block, besides the decoder's own histories, updated in place."""

    prior: PriorMemory
    z_p: Past
    latents: Latents
    source: SourceState
    edges: list[float] = field(default_factory=list)
    """Real time, in frames, at which each kept stretched frame starts; the last entry is the end of the newest."""
    first_edge: int = 0
    """Number of the stretched frame that edges[0] belongs to."""


class VoiceStream:
    """Runs one voice. Feed frames in order, then take samples in order."""

    def __init__(
        self, voice: Voice, geometry: StreamGeometry, *, seed: int = 0, speaker_id: int = 0, gain_db: float = 0.0,
        link: LinkMaker = link_to, graphs: Graphs | None = None,
    ) -> None:  # fmt: skip
        """gain_db: this voice's own, for whoever finishes the block."""
        self.voice, self.geometry, self.seed, self.gain_db = voice, geometry, seed, gain_db
        self.synth = voice.synthesizer
        config = self.synth.config
        self.unit_width, self.hop = config.unit_width, voice.decoder.hop
        self.samples_per_frame_ratio = self.hop / geometry.hop_samples
        exact = voice.precision is torch.float32
        self.flow_context_frames = self.synth.flow.reach_frames if exact else min(FAST_FLOW_FRAMES, self.synth.flow.reach_frames)
        self.speaker = self.synth.speaker(speaker_id)
        self.device = self.speaker.device
        layers = voice.decoder
        self.decoder = start_decoder(layers, self.speaker, seed)
        yield_point()
        # The stretched clock runs up to twice as fast as the real one.
        self.decoded = HistoryBuffer(2 * self.hop * (geometry.window_frames + 2 * WARM_UP_FRAMES))
        self._prior_link, self._decoder_link = link(self.device), link(self.device)
        graphs = graphs or Graphs()
        self.prior_step = Step("prior and flow", graphs, self._prior_tensors, self._bands)
        self.decoder_step = Step("decoder", graphs, self._decoder_tensors)
        self.state = StreamState(
            prior=self.synth.enc_p.start(geometry.context_frames),
            z_p=Past(self.flow_context_frames, 1),
            latents=Latents(),
            source=SourceState(start_cycles(seed, layers.source)),
        )
        self.state.source.move_to(self.device)
        self.restart(0)

    def restart(self, frame: int) -> None:
        """Forget everything; the next batch may start anywhere at or before `frame`, the first sample wanted is of `frame`.

        The decoder starts up to WARM_UP_FRAMES earlier, so feed at least those frames and the flow's reach before.
        """
        state = self.state
        for layer in state.prior:
            layer.reset()
        for part in (state.z_p, state.source):
            part.reset()
        state.latents.clear()
        self.start_decoding(frame)

    def start_decoding(self, frame: int, warm_up_frames: int = WARM_UP_FRAMES) -> None:
        """Let the decoder forget everything and begin so that the first sample wanted is of `frame`; the latents stay."""
        start = max(0, frame - warm_up_frames)
        self.state.edges, self.state.first_edge = [float(start)], start
        self.decoder.reset(start)
        self.decoded.reset(start * self.hop - self.decoder.tail_samples)

    @property
    def start_frames(self) -> int:
        """How many frames before the first one heard should be fed after restart()."""
        return WARM_UP_FRAMES + self.flow_context_frames + PRIOR_CONTEXT_FRAMES

    def tensors(self) -> list[Tensor | None]:
        """Where the stream is kept on the networks' device; None for what has not begun."""
        return [*self._prior_tensors(), *self._decoder_tensors()[1:]]

    def _prior_tensors(self) -> list[Tensor | None]:
        state = self.state
        return [*(tensor for layer in state.prior for tensor in layer.tensors()), state.z_p.tensor, state.latents.z.content]

    def _decoder_tensors(self) -> list[Tensor | None]:
        return [self.state.latents.z.content, *self.state.source.tensors(), *self.decoder.tensors()]

    def _bands(self) -> list[object]:
        return [layer.band for layer in self.state.prior if isinstance(layer, LayerMemory)]

    @torch.inference_mode()
    def feed(self, batch: FrameBatch, watch: Stopwatch | None = None) -> None:
        """Turn frames into latents: units from the index, enc_p with what it remembers, noise of the absolute frame, flow."""
        watch = watch or Stopwatch()
        state, T = self.state, len(batch.units)
        factor = np.exp2(batch.formant.astype(np.float64) / 12)
        coarse = coarse_pitch((batch.f0_hz / factor).astype(np.float32), batch.voiced)
        noise = frame_noise(self.seed, batch.first, T, self.synth.config.inter_channels, PRIOR_STREAM)
        share = np.zeros(0, np.float32) if batch.share is None else batch.share
        on_device = self._prior_link.upload(coarse, noise, share)
        watch.lap("prior")
        units = batch.units
        if batch.share is not None and self.voice.index is not None:
            units = blend(self.voice.index, units, on_device[2], self.voice.rows_alike)
            watch.lap("retrieval")
            yield_point()
        join = state.latents.join(batch.first, math.floor(state.edges[-1]) - KEPT_LATENT_FRAMES)
        inputs = [units, on_device[0], on_device[1]]
        self.prior_step.run((batch.final, join), inputs, lambda given: self._make_latents(given, batch.final, join))
        state.latents.take(join, batch, factor)

    def _make_latents(self, inputs: list[Tensor], final: int, join: Join) -> Tensor:
        """units (T, unit_width), coarse (T,), noise (T, inter) -> latents, which join those that are there."""
        state, (units, coarse, noise) = self.state, inputs
        mean, log_std = self.synth.enc_p.step(units[None], coarse[None], state.prior, final)
        yield_point()
        z_p = mean[0] + torch.exp(log_std[0]) * noise.T * PRIOR_NOISE_SCALE
        z = self.synth.flow(state.z_p.extend(z_p, final)[None], self.speaker)[0, :, -len(units) :]
        return state.latents.z.roll(join.start, join.end, z[:, join.skipped :])

    def samples(self, first: int, end: int, watch: Stopwatch | None = None) -> NDArray[np.float32]:
        """Return samples first .. end at the stream's rate, decoding the frames they need."""
        watch = watch or Stopwatch()
        times = np.arange(first, end, dtype=np.float64) / self.geometry.hop_samples
        ahead = self._edges_ahead(times[-1])
        edges = np.array(self.state.edges + ahead)
        stretched_first = self.state.first_edge * self.hop
        positions = np.interp(times, edges, stretched_first + self.hop * np.arange(len(edges)))
        if np.array_equal(np.diff(edges), np.ones(len(edges) - 1)):
            # One stretched frame a frame: exact, where np.interp rounds.
            positions = (times - edges[0]) * self.hop + stretched_first
        ratio = self.samples_per_frame_ratio * float(np.max(1.0 / np.diff(edges)))
        kernel = kernel_for(ratio)
        needed = positions[-1] + kernel.reach + 2 + self.decoder.tail_samples
        self._decode(max(0, math.ceil(needed / self.hop) - self.decoder.state.frames), ahead)
        watch.lap("decode")
        yield_point()
        audio = interpolate(self.decoded, positions, kernel)
        watch.lap("resample")
        return audio

    def _edges_ahead(self, until: float) -> list[float]:
        """Continue the stretched clock from its newest edge to past `until` and to the end of the latents."""
        latents, edge = self.state.latents, self.state.edges[-1]
        ahead: list[float] = []
        # A stretched frame lasts at most two real ones (formant -12).
        enough = max(until + 2 * (self.decoder.tail_samples / self.hop + 2), latents.end)
        while edge < enough:
            frame = min(max(math.floor(edge) - latents.first, 0), len(latents.factor) - 1)
            edge += 1.0 / latents.factor[frame]
            ahead.append(edge)
        return ahead

    @torch.inference_mode()
    def _decode(self, count: int, ahead: list[float]) -> None:
        """Decode `count` stretched frames, with those after them that lie in the latents as lookahead."""
        if count == 0:
            return
        state, latents = self.state, self.state.latents
        starts = np.array([state.edges[-1], *ahead[:-1]])
        lengths = np.array(ahead) - starts
        known = int(np.searchsorted(starts + lengths / 2, latents.end))
        usable = max(count, min(known, count + self.decoder.lookahead_frames))
        starts, lengths = starts[:usable], lengths[:usable]
        # A stretched frame stands for the real time in its middle (linear resizing without aligned corners).
        middles = starts + lengths / 2 - 0.5 - latents.first
        columns = Columns.at(middles, len(latents.factor))
        arrays = (*columns.arrays(), *self._source_inputs(np.floor(middles + 0.5).astype(int), lengths))
        arrays += tuple(self.decoder.noise_inputs(count, usable))
        inputs = self._decoder_link.upload(*arrays)
        key = (count, columns.between, state.source.started) if self.decoder.is_under_way else None
        audio = self.decoder_step.run(key, inputs, lambda given: self._make_samples(given, count, between=columns.between))
        self.decoder.state.frames += count
        self.decoded.append(self._decoder_link.download(audio))
        state.edges = (state.edges + ahead[:count])[-(4 * WARM_UP_FRAMES + count) :]
        state.first_edge = self.decoder.state.frames - len(state.edges) + 1

    def _make_samples(self, inputs: list[Tensor], count: int, *, between: bool) -> Tensor:
        """What _decode() uploads -> (count * hop,) float32. between: columns lie between those of the latents."""
        z, source, given = self.state.latents.z.content, self.voice.decoder.source, iter(inputs)
        assert z is not None
        z = take_columns(z, next(given), next(given), next(given), between=between)
        if isinstance(self.decoder, SourceFilterDecoder):
            return self.decoder.run(z[None], (next(given), next(given), next(given).flatten()), count, []).float()
        excitation: Tensor | None = None
        if source is not None:
            f0, voiced, noise = next(given), next(given), next(given)
            excitation = source.of(f0, voiced, noise.view(-1, source.harmonics), self.state.source, final=count)[None, None]
        yield_point()
        return self.decoder.run(z[None], excitation, count, list(given)).float()

    def _source_inputs(self, frames: NDArray[np.int64], lengths: NDArray[np.float64]) -> tuple[NDArray[Any], ...]:
        """Return pitch, voicing and noise of stretched frames, nothing for a voice without f0."""
        source = self.voice.decoder.source
        if source is None and not isinstance(self.decoder, SourceFilterDecoder):
            return ()
        harmonics = 1 if source is None else source.harmonics
        latents = self.state.latents
        frames = np.clip(frames, 0, len(latents.f0_hz) - 1)
        f0 = (latents.f0_hz[frames] * lengths).astype(np.float32)
        noise = frame_noise(self.seed, self.decoder.state.frames, len(frames), self.hop * harmonics, SOURCE_STREAM)
        return f0, latents.voiced[frames], noise


def start_cycles(seed: int, source: Excitation | None) -> Tensor | None:
    """Return where the phases of an excitation's harmonics start, (H,): the fundamental's at 0; None for a single one."""
    if source is None or source.harmonics == 1:
        return None
    starts = np.random.Generator(np.random.Philox(key=seed)).random(source.harmonics)
    starts[0] = 0.0
    return torch.from_numpy(starts)


@dataclass(frozen=True)
class Columns:
    """Fractional columns of a matrix: those below and above, and the weight of the latter. between: some have a fraction."""

    below: NDArray[np.int64]
    above: NDArray[np.int64]
    weight: NDArray[np.float32]
    between: bool

    @classmethod
    def at(cls, positions: NDArray[np.float64], count: int) -> Columns:
        """Return positions among `count` columns, held at both ends."""
        held = np.clip(positions, 0, count - 1)
        below = np.floor(held).astype(np.int64)
        weight = (held - below).astype(np.float32)
        return cls(below, np.minimum(below + 1, count - 1), weight, bool((held != below).any()))

    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.below, self.above, self.weight


def take_columns(z: Tensor, below: Tensor, above: Tensor, weight: Tensor, *, between: bool) -> Tensor:
    """Return (C, N): columns of z (C, T), between two where `between` says that there are such."""
    lower = z[:, below]
    return lower + (z[:, above] - lower) * weight if between else lower
