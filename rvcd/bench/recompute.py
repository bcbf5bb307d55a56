"""RVC's usual way to convert live, for comparison: every block recomputes its whole context, and a crossfade hides the seams.

Each block, in float32 with plain modules: 2.5 s of past, the block and 60 ms of margin go through the content encoder, enc_p
sees all of it, flow and decoder make the block and 50 ms more, of which a search of 10 ms finds what continues the last block
best (SOLA) and 40 ms are faded. The pitch is estimated over the block and 50 ms. Gate and loudness matching are left out: they
cost nothing worth counting, and what is left out counts in favour of this way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.bench.tasks import StreamSetup
from rvcd.engine.dsp.resample import StreamResampler
from rvcd.engine.loader import choose_device
from rvcd.engine.pitch import PitchMethod, PitchTrack, coarse_pitch, create_pitch_method, transpose
from rvcd.engine.pitch.methods.rmvpe import RmvpePitch
from rvcd.engine.retrieval import UnitIndex, read_index
from rvcd.engine.stopwatch import Stopwatch, Timings
from rvcd.engine.units import ContentEncoder
from rvcd.errors import ModelFileError, ParamError
from rvcd.formats.voice_file import read_voice
from rvcd.geometry import ENCODER_HOP_SAMPLES, ENCODER_RATE_HZ, FRAME_MS, FRAMES_PER_SECOND, FRAMES_PER_UNIT
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.rmvpe import load_rmvpe
from rvcd.nets.synthesizer import Synthesizer, build_synthesizer

BLOCK_MS, CONTEXT_MS = 250.0, 2500.0
MIN_BLOCK_MS, MAX_BLOCK_MS, MAX_CONTEXT_MS = 50.0, 2000.0, 30_000.0
FADE_FRAMES, SEARCH_FRAMES = 4, 1
MARGIN_FRAMES = 1
"""The newest frame is not synthesised: its unit is a copy and its pitch is estimated at the edge."""
PITCH_OVERLAP_SAMPLES = 800
"""Audio before the block that its pitch is estimated with, at 16 kHz."""
PITCH_EDGE_FRAMES = 3
"""The pitch of so many frames at the start of that window is kept from the block before, which knew more past."""
RMVPE_STEP_SAMPLES = 5120
"""For rmvpe the window is rounded up to a multiple of this, less one frame: it works in steps of 32 frames."""
ENERGY_FLOOR = 1e-8


@dataclass(frozen=True)
class PlainModels:
    """Float32 modules as their files describe them, nothing fused, packed or freed."""

    encoder: ContentEncoder
    synthesizer: Synthesizer
    index: UnitIndex | None


def load_plain(encoder: Path | str, voice: Path | str, index: Path | str = "", *, device: str = "cpu") -> PlainModels:
    """Load the files of a content encoder, a voice and its index ("": none). Raises ModelFileError with one sentence."""
    file, content = read_voice(voice), load_content_encoder(encoder, device=device)
    unit_width = file.spec.config.unit_width
    if content.hears_pitch:
        raise ModelFileError(f"{voice}: is no RVC voice, so upstream has no way to run it; name one, or use --synthetic")
    try:
        content.check_units(unit_width, file.spec.unit_layer)
    except ModelFileError as error:
        raise ModelFileError(f"{voice}: does not go with the content encoder: {error}") from None
    synthesizer = build_synthesizer(file.spec.config, file.weights, path=str(voice), device=device)
    return PlainModels(content, synthesizer, read_index(index, unit_width, device=device) if index else None)


def load_recompute(setup: StreamSetup, *, index_rate: float = 0.5) -> RecomputeConverter:
    """Return the converter for the files, the pitch method and the rate that a worker would be told.

    setup.models.encoder is set. Raises RvcdError with one sentence.
    """
    chosen, voice = setup.models, setup.voice
    encoder = voice.encoder or chosen.encoder
    if not encoder:
        raise ModelFileError("there is nothing to compare with: name a content encoder")
    device = choose_device(chosen.device)
    models = load_plain(encoder, voice.path, voice.index, device=device)
    pitch = _plain_pitch_method(setup.f0_method, Path(chosen.rmvpe) if chosen.rmvpe else None, device)
    return RecomputeConverter(
        models.encoder, pitch, models.synthesizer, models.index, rate_hz=setup.geometry.rate_hz, index_rate=index_rate,
        seed=chosen.seed,
    )  # fmt: skip


def _plain_pitch_method(name: str, rmvpe: Path | None, device: str) -> PitchMethod:
    """Return a pitch method that computes as its files describe it. Raises RvcdError with one sentence."""
    if name == "rmvpe" and rmvpe is not None:
        return RmvpePitch(load_rmvpe(rmvpe, device, plain=True))
    return create_pitch_method(name, model_path=rmvpe, device=device)


class RecomputeConverter:
    """Converts a stream block by block. State: the window's audio and pitch, and the samples to fade the next block in with."""

    def __init__(
        self,
        encoder: ContentEncoder,
        pitch: PitchMethod,
        synthesizer: Synthesizer,
        index: UnitIndex | None,
        *,
        rate_hz: int,
        block_ms: float = BLOCK_MS,
        context_ms: float = CONTEXT_MS,
        index_rate: float = 0.5,
        semitones: float = 0.0,
        speaker_id: int = 0,
        seed: int = 0,
    ) -> None:
        """rate_hz: of the stream, a multiple of 100. block_ms, context_ms: whole frames of 10 ms. semitones: transposes.

        Raises ParamError, naming value and bound, for a rate, block or context that cannot be.
        """
        if rate_hz <= 0 or rate_hz % FRAMES_PER_SECOND:
            raise ParamError(f"the sample rate {rate_hz} Hz cannot be used; it must be a multiple of {FRAMES_PER_SECOND} Hz")
        self.encoder, self.pitch, self.synthesizer, self.index = encoder, pitch, synthesizer, index
        self.rate_hz, self.block_ms, self.index_rate, self.semitones = rate_hz, block_ms, index_rate, semitones
        self.speaker_id = speaker_id
        self.block_frames = _whole_frames("block_ms", block_ms, MIN_BLOCK_MS, MAX_BLOCK_MS)
        self.context_frames = _whole_frames("context_ms", context_ms, 0.0, MAX_CONTEXT_MS)
        self.made_frames = self.block_frames + FADE_FRAMES + SEARCH_FRAMES
        self.window_frames = self.context_frames + self.made_frames + MARGIN_FRAMES
        hop = rate_hz // FRAMES_PER_SECOND
        self.block_samples = self.block_frames * hop
        self.fade_samples, self.search_samples = FADE_FRAMES * hop, SEARCH_FRAMES * hop
        self.device = synthesizer.emb_g.weight.device
        self._random = torch.Generator(self.device).manual_seed(seed)
        self._fade_in: NDArray[np.float32] = np.sin(np.linspace(0, np.pi / 2, self.fade_samples, dtype=np.float32)) ** 2
        self._to_16k = StreamResampler(rate_hz, ENCODER_RATE_HZ, self.block_samples)
        self.reset()

    def reset(self) -> None:
        """Forget all audio."""
        self._to_16k.reset()
        self._window = np.zeros(self.window_frames * ENCODER_HOP_SAMPLES, np.float32)
        self._track = PitchTrack.unvoiced(self.window_frames)
        self._tail = np.zeros(self.fade_samples, np.float32)

    @property
    def delay_samples(self) -> int:
        """How far the output is behind the input at most; what the search finds may be up to 10 ms nearer."""
        frames = FADE_FRAMES + SEARCH_FRAMES + MARGIN_FRAMES
        return frames * self.rate_hz // FRAMES_PER_SECOND + self._to_16k.reach_samples

    @torch.inference_mode()
    def process(self, block: NDArray[np.float32]) -> tuple[NDArray[np.float32], Timings]:
        """Convert one block (block_samples,) float32 at rate_hz into one of the same size, delay_samples behind it."""
        if block.shape != (self.block_samples,):
            raise ValueError(f"a block has {self.block_samples} samples, not {block.shape}")
        watch = Stopwatch()
        self._push(block)
        watch.lap("resample")
        units = self._units()
        watch.lap("encode")
        coarse, f0_hz = self._pitch()
        watch.lap("pitch")
        first_new = self.context_frames // FRAMES_PER_UNIT
        if self.index is not None:
            units = torch.cat((units[:first_new], self.index.blend(units[first_new:], self.index_rate)))
        watch.lap("retrieval")
        made = self._synthesise(units.repeat_interleave(FRAMES_PER_UNIT, dim=0)[: self.window_frames], coarse, f0_hz, watch)
        watch.lap("decode")
        made = self._at_stream_rate(made)
        watch.lap("resample")
        audio = self._continue(made)
        watch.lap("other")
        return audio, watch.timings(watch.spent_ms["pitch"])

    def _push(self, block: NDArray[np.float32]) -> None:
        audio_16k = self._to_16k.process(block)
        kept = len(self._window) - len(audio_16k)
        self._window[:kept] = self._window[len(audio_16k) :].copy()
        self._window[kept:] = audio_16k

    def _units(self) -> Tensor:
        """Return one unit for two frames of the window (N, unit_width), the last one twice: the encoder gives one too few."""
        audio = torch.from_numpy(self._window)[None].to(self.device)
        units = self.encoder.units(audio, unit_width=self.synthesizer.config.unit_width)[0]
        return torch.cat((units, units[-1:]))

    def _pitch(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the window's coarse pitch (1, T) and f0 (1, T) in Hz, transposed; None for a voice without f0."""
        if not self.synthesizer.config.has_f0:
            return None, None
        count = self.block_frames * ENCODER_HOP_SAMPLES + PITCH_OVERLAP_SAMPLES
        if self.pitch.name == "rmvpe":
            count = -(-(count + ENCODER_HOP_SAMPLES) // RMVPE_STEP_SAMPLES) * RMVPE_STEP_SAMPLES - ENCODER_HOP_SAMPLES
        count = min(count, len(self._window))
        heard = self.pitch.estimate(self._window[-count:])
        known = self._track[self.block_frames :]
        kept = self.window_frames - len(heard) + PITCH_EDGE_FRAMES
        self._track = PitchTrack(
            np.concatenate((known.f0_hz[:kept], heard.f0_hz[PITCH_EDGE_FRAMES:])),
            np.concatenate((known.voiced[:kept], heard.voiced[PITCH_EDGE_FRAMES:])),
        )
        f0_hz, voiced = transpose(self._track.f0_hz, self.semitones), self._track.voiced
        coarse = torch.from_numpy(coarse_pitch(f0_hz, voiced)).to(self.device)
        return coarse[None], torch.from_numpy(np.where(voiced, f0_hz, np.float32(0))).to(self.device)[None]

    def _synthesise(self, units: Tensor, coarse: Tensor | None, f0_hz: Tensor | None, watch: Stopwatch) -> NDArray[np.float32]:
        """Return made_frames of samples at the voice's rate. The time up to the decoder counts as 'prior'."""
        config, decoder = self.synthesizer.config, self.synthesizer.dec
        hook = decoder.register_forward_pre_hook(lambda *_: watch.lap("prior"))
        try:
            samples = self.synthesizer.infer(
                units[None],
                coarse,
                f0_hz,
                self.speaker_id,
                skip_head=self.context_frames,
                return_length=self.made_frames,
                prior_noise=self._noise(1, config.inter_channels, self.window_frames),
                source_noise=self._noise(self.made_frames * decoder.hop, config.vocoder.harmonics),
            )
        finally:
            hook.remove()
        audio: NDArray[np.float32] = samples[0].cpu().numpy()
        return audio

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random, device=self.device)

    def _at_stream_rate(self, made: NDArray[np.float32]) -> NDArray[np.float32]:
        rate_hz = self.synthesizer.config.rate_hz
        wanted = self.block_samples + self.fade_samples + self.search_samples
        if rate_hz == self.rate_hz:
            return made
        resampled = soxr.resample(made, rate_hz, self.rate_hz, quality="HQ")[:wanted]
        return np.pad(resampled, (0, wanted - len(resampled)))

    def _continue(self, made: NDArray[np.float32]) -> NDArray[np.float32]:
        """Start where `made` is most like the samples kept from the last block, and fade over from those (SOLA)."""
        head = made[: self.fade_samples + self.search_samples]
        likeness = np.correlate(head, self._tail, "valid")
        energy = np.concatenate(([0.0], np.cumsum(np.square(head, dtype=np.float64))))
        energy = energy[self.fade_samples :] - energy[: len(likeness)]
        made = made[int(np.argmax(likeness / np.sqrt(energy + ENERGY_FLOOR))) :]
        audio = made[: self.block_samples].copy()
        audio[: self.fade_samples] *= self._fade_in
        audio[: self.fade_samples] += self._tail * (1 - self._fade_in)
        self._tail = made[self.block_samples :][: self.fade_samples].copy()
        return audio


def _whole_frames(name: str, value_ms: float, low_ms: float, high_ms: float) -> int:
    if not low_ms <= value_ms <= high_ms or value_ms % FRAME_MS:
        raise ParamError(
            f"{name} = {value_ms:g} is out of range; it takes a multiple of {FRAME_MS:g} ms in {low_ms:g}..{high_ms:g}"
        )
    return round(value_ms / FRAME_MS)
