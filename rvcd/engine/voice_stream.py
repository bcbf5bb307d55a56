"""One voice as a stream: rows of units and pitch in, samples at the stream's rate out, each frame synthesised once.

Frames are numbered from the start of the stream. *Final* frames never change; *provisional* ones (the lookahead) serve as
the right-hand context of the final ones and are computed again. A formant shift by the factor k decodes the voice on a
stretched clock with k frames for each real one, then plays it back k times as fast (RVC's formant shift); with k = 1 the
stretched clock is the real one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.decoder import StreamingDecoder
from rvcd.engine.decoder_layers import DecoderLayers
from rvcd.engine.dsp.history_buffer import HistoryBuffer
from rvcd.engine.dsp.noise import frame_noise
from rvcd.engine.dsp.resample import interpolate, kernel_for
from rvcd.engine.pitch import coarse_pitch
from rvcd.engine.refinegan_decoder import RefineDecoder
from rvcd.engine.refinegan_layers import RefineLayers
from rvcd.engine.retrieval import UnitIndex
from rvcd.engine.stopwatch import Stopwatch
from rvcd.engine.units import ContentEncoder, UnitKind
from rvcd.formats.voice_file import VoiceSpec
from rvcd.geometry import StreamGeometry
from rvcd.nets.conv_ways import Ways
from rvcd.nets.excitation import Excitation, SourceState
from rvcd.nets.packed import worth_packing
from rvcd.nets.prior_steps import PriorStream
from rvcd.nets.refinegan import RefineGan
from rvcd.nets.synthesizer import PRIOR_NOISE_SCALE, LayerMemory, Synthesizer
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


@dataclass(frozen=True)
class Voice:
    """A loaded voice: networks and, if it has one, the index of its units.

    synthesizer: enc_p, flow and speakers; its own decoder is only there when it is kept (see of()). encoder: makes its units;
    None: the stream's own does.
    """

    name: str
    spec: VoiceSpec
    synthesizer: Synthesizer
    decoder: DecoderLayers | RefineLayers
    index: UnitIndex | None = None
    encoder: ContentEncoder | None = None

    @property
    def unit_kind(self) -> UnitKind:
        """Which units it takes."""
        return UnitKind(self.synthesizer.config.unit_width, self.spec.unit_layer)

    @classmethod
    def of(
        cls, name: str, spec: VoiceSpec, synthesizer: Synthesizer, index: UnitIndex | None = None,
        encoder: ContentEncoder | None = None, *, precision: torch.dtype = torch.float32, keep_decoder: bool = True,
        ways: Ways | None = None,
    ) -> Voice:  # fmt: skip
        """Prepare a synthesizer for streaming. enc_p and flow are packed in place where that is worth it.

        ways: how the decoder's convolutions are computed; None: directly.
        keep_decoder False: free the decoder's plain weights, which then cannot run offline.
        """
        generator = synthesizer.dec
        of = RefineLayers.of if isinstance(generator, RefineGan) else DecoderLayers.of
        decoder = of(generator, precision, ways)  # type: ignore[arg-type]  # each gets its own kind
        if not keep_decoder:
            del synthesizer.dec
        if worth_packing(precision, str(synthesizer.emb_g.weight.device)):
            synthesizer.enc_p.pack(precision)
            synthesizer.flow.pack(precision)
        return cls(name, spec, synthesizer, decoder, index, encoder)


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames. units (T, unit_width), f0_hz (T,) transposed, voiced (T,) bool, formant (T,) semitones.

    first: number of the first frame. final: how many, counted from the first, will not change any more.
    """

    first: int
    final: int
    units: Tensor
    f0_hz: NDArray[np.float32]
    voiced: NDArray[np.bool_]
    formant: NDArray[np.float32]


@dataclass
class Latents:
    """Latents and pitch of consecutive frames, the newest provisional. z (inter, T)."""

    first: int
    z: Tensor
    f0_hz: NDArray[np.float32]
    voiced: NDArray[np.bool_]
    factor: NDArray[np.float64]

    @property
    def end(self) -> int:
        return self.first + self.z.shape[1]

    def since(self, frame: int) -> Latents:
        """Return the part from `frame` on."""
        cut = max(0, frame - self.first)
        return Latents(self.first + cut, self.z[:, cut:], self.f0_hz[cut:], self.voiced[cut:], self.factor[cut:])

    def up_to(self, frame: int) -> Latents:
        """Return the part before `frame`."""
        keep = max(0, frame - self.first)
        return Latents(self.first, self.z[:, :keep], self.f0_hz[:keep], self.voiced[:keep], self.factor[:keep])

    def followed_by(self, other: Latents) -> Latents:
        return Latents(
            self.first,
            torch.cat((self.z, other.z), dim=1),
            np.concatenate((self.f0_hz, other.f0_hz)),
            np.concatenate((self.voiced, other.voiced)),
            np.concatenate((self.factor, other.factor)),
        )


@dataclass
class StreamState:
    """Everything a voice's stream carries from block to block, besides the decoder's own histories."""

    prior: list[LayerMemory] | PriorStream
    z_p: Tensor
    latents: Latents
    source: SourceState
    edges: list[float] = field(default_factory=list)
    """Real time, in frames, at which each kept stretched frame starts; the last entry is the end of the newest."""
    first_edge: int = 0
    """Number of the stretched frame that edges[0] belongs to."""


class VoiceStream:
    """Runs one voice. Feed frames in order, then take samples in order."""

    def __init__(
        self, voice: Voice, geometry: StreamGeometry, *, seed: int = 0, speaker_id: int = 0, gain_db: float = 0.0
    ) -> None:
        """gain_db: this voice's own, for whoever finishes the block."""
        self.voice, self.geometry, self.seed, self.gain_db = voice, geometry, seed, gain_db
        self.synth = voice.synthesizer
        config = self.synth.config
        self.unit_width, self.hop = config.unit_width, voice.decoder.hop
        self.samples_per_frame_ratio = self.hop / geometry.hop_samples
        exact = voice.decoder.dtype is torch.float32
        self.flow_context_frames = self.synth.flow.reach_frames if exact else min(FAST_FLOW_FRAMES, self.synth.flow.reach_frames)
        self.speaker = self.synth.speaker(speaker_id)
        self.device = self.speaker.device
        layers = voice.decoder
        self.decoder: StreamingDecoder | RefineDecoder = (
            RefineDecoder(layers, self.speaker, seed)
            if isinstance(layers, RefineLayers)
            else StreamingDecoder(layers, self.speaker)
        )
        yield_point()
        # The stretched clock runs up to twice as fast as the real one.
        self.decoded = HistoryBuffer(2 * self.hop * (geometry.window_frames + 2 * WARM_UP_FRAMES))
        self.restart(0)

    def restart(self, frame: int) -> None:
        """Forget everything; the next batch may start anywhere at or before `frame`, the first sample wanted is of `frame`.

        The decoder starts up to WARM_UP_FRAMES earlier, so feed at least those frames and the flow's reach before.
        """
        config = self.synth.config
        empty = np.zeros(0, np.float32)
        self.state = StreamState(
            prior=self.synth.enc_p.start(self.geometry.context_frames),
            z_p=torch.zeros((config.inter_channels, 0), device=self.device),
            latents=Latents(
                0, torch.zeros((config.inter_channels, 0), device=self.device), empty, empty > 0, empty.astype(np.float64)
            ),
            source=SourceState(start_cycles=start_cycles(self.seed, self.voice.decoder.source)),
        )
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

    @torch.inference_mode()
    def feed(self, batch: FrameBatch) -> None:
        """Turn frames into latents: enc_p with what it remembers, noise of the absolute frame, flow."""
        state, T = self.state, len(batch.units)
        factor = np.exp2(batch.formant.astype(np.float64) / 12)
        coarse = torch.from_numpy(coarse_pitch((batch.f0_hz / factor).astype(np.float32), batch.voiced)).to(self.device)
        mean, log_std = self.synth.enc_p.step(batch.units[None], coarse[None], state.prior, batch.final)
        yield_point()
        noise = torch.from_numpy(frame_noise(self.seed, batch.first, T, mean.shape[1], PRIOR_STREAM)).to(self.device)
        z_p = mean[0] + torch.exp(log_std[0]) * noise.T * PRIOR_NOISE_SCALE
        z_p_seen = torch.cat((state.z_p, z_p), dim=1)
        z = self.synth.flow(z_p_seen[None], self.speaker)[0, :, -T:]

        new = Latents(batch.first, z, batch.f0_hz, batch.voiced, factor)
        kept = state.latents.up_to(batch.first)
        state.latents = kept.followed_by(new) if kept.z.shape[1] else new
        state.latents = state.latents.since(math.floor(state.edges[-1]) - KEPT_LATENT_FRAMES)
        z_p_end = state.z_p.shape[1] + batch.final
        state.z_p = z_p_seen[:, max(0, z_p_end - self.flow_context_frames) : z_p_end]

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
        z = _take_linear(latents.z, middles)
        source = self._source(np.floor(middles + 0.5).astype(int), lengths, count)
        yield_point()
        audio = self.decoder.step(z[None], source, count)
        self.decoded.append(audio.float().cpu().numpy())
        state.edges = (state.edges + ahead[:count])[-(4 * WARM_UP_FRAMES + count) :]
        state.first_edge = self.decoder.state.frames - len(state.edges) + 1

    def _source(self, frames: NDArray[np.int64], lengths: NDArray[np.float64], final: int) -> Tensor | None:
        """Return the merged excitation (1, 1, T * hop) of stretched frames; the phase is kept after the final ones."""
        source = self.voice.decoder.source
        if source is None:
            return None
        latents = self.state.latents
        frames = np.clip(frames, 0, len(latents.f0_hz) - 1)
        f0 = torch.from_numpy((latents.f0_hz[frames] * lengths).astype(np.float32)).to(self.device)
        voiced = torch.from_numpy(latents.voiced[frames]).to(self.device)
        width = self.hop * source.harmonics
        noise = torch.from_numpy(frame_noise(self.seed, self.decoder.state.frames, len(frames), width, SOURCE_STREAM))
        noise = noise.to(self.device).view(-1, source.harmonics)
        return source.of(f0, voiced, noise, self.state.source, final=final)[None, None]


def start_cycles(seed: int, source: Excitation | None) -> Tensor | None:
    """Return where the phases of an excitation's harmonics start, (H,): the fundamental's at 0; None for a single one."""
    if source is None or source.harmonics == 1:
        return None
    starts = np.random.Generator(np.random.Philox(key=seed)).random(source.harmonics)
    starts[0] = 0.0
    return torch.from_numpy(starts)


def _take_linear(z: Tensor, positions: NDArray[np.float64]) -> Tensor:
    """Return (C, len(positions)): columns of z (C, T) at fractional positions, held at both ends."""
    last = z.shape[1] - 1
    held = np.clip(positions, 0, last)
    below = np.floor(held).astype(np.int64)
    weight = torch.from_numpy((held - below).astype(np.float32)).to(z.device)
    lower = z[:, torch.from_numpy(below).to(z.device)]
    if not (held != below).any():
        return lower
    upper = z[:, torch.from_numpy(np.minimum(below + 1, last)).to(z.device)]
    return lower + (upper - lower) * weight
