"""The quantisation error of bfloat16: the streamed output against offline float32, from the same latents of real speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.converter import Converter
from rvcd.engine.decoder import StreamingDecoder
from rvcd.engine.decoder_layers import DecoderLayers
from rvcd.engine.refinegan_decoder import RefineDecoder
from rvcd.engine.source_filter_decoder import SourceFilterDecoder
from rvcd.geometry import FRAMES_PER_SECOND
from rvcd.nets.synthesizer import Generator
from rvcd.params import Snapshot

SEAM_MS = 1.0


@dataclass(frozen=True)
class QuantisationError:
    """snr_db: of the streamed samples against offline ones. seam_ratio: energy of the second difference near the blocks'
    boundaries over its value elsewhere, itself divided by the same ratio of the offline samples, which have no seams."""

    snr_db: float
    seam_ratio: float
    seconds: float


class LatentRecorder:
    """Stands in for a converter's decoder and keeps what it is asked to decode."""

    def __init__(self, decoder: StreamingDecoder | RefineDecoder) -> None:
        self.decoder = decoder
        self.z: list[Tensor] = []
        self.source: list[Tensor] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.decoder, name)

    def run(self, z: Tensor, source: Tensor | None, frames: int, noise: list[Tensor]) -> Tensor:
        self.z.append(z[..., :frames].clone())
        if source is not None:
            self.source.append(source[..., : frames * self.decoder.hop].clone())
        return self.decoder.run(z, source, frames, noise)

    def latents(self) -> tuple[Tensor, Tensor | None]:
        """Return all frames decoded so far, (1, inter, T), and their excitation, (1, 1, T * hop)."""
        return torch.cat(self.z, dim=2), torch.cat(self.source, dim=2) if self.source else None


def latents_of(converter: Converter, audio: NDArray[np.float32]) -> tuple[Tensor, Tensor | None]:
    """Convert audio at the stream's rate and return the latents and excitation of its frames."""
    decoder = converter.stream.decoder
    assert not isinstance(decoder, SourceFilterDecoder)  # it has no excitation of its own
    recorder = LatentRecorder(decoder)
    converter.stream.decoder = recorder  # type: ignore[assignment]
    size, snapshot = converter.geometry.block_samples, Snapshot(gate=-90.0)
    for start in range(0, len(audio) - size + 1, size):
        converter.process(audio[start : start + size], snapshot)
    converter.stream.decoder = recorder.decoder
    return recorder.latents()


@torch.inference_mode()
def measure_quantisation_error(
    generator: Generator, speaker: Tensor, z: Tensor, source: Tensor | None, *, dtype: torch.dtype, block_frames: int
) -> QuantisationError:
    """Decode z (1, inter, T) in blocks in dtype, and at once by the plain generator, and compare."""
    decoder = StreamingDecoder(DecoderLayers.of(generator, dtype), speaker)
    hop, lookahead, out = generator.hop, decoder.lookahead_frames, []
    for first in range(0, z.shape[2] - lookahead - block_frames + 1, block_frames):
        end = first + block_frames + lookahead
        excitation = None if source is None else source[..., first * hop : end * hop]
        out.append(decoder.step(z[..., first:end], excitation, block_frames))
    streamed = torch.cat(out)[decoder.tail_samples :].cpu().numpy()
    offline = generator(z, source, speaker).reshape(-1)[: len(streamed)].cpu().numpy()
    error, power = (float(np.sum(np.square(x, dtype=np.float64))) for x in (streamed - offline, offline))
    rate_hz = hop * FRAMES_PER_SECOND
    block_samples, start = block_frames * hop, -decoder.tail_samples
    ratios = [seam_ratio(x, block_samples, start, round(SEAM_MS * rate_hz / 1000)) for x in (streamed, offline)]
    return QuantisationError(10 * float(np.log10(power / max(error, 1e-30))), ratios[0] / ratios[1], len(streamed) / rate_hz)


def seam_ratio(x: NDArray[np.float32], block_samples: int, start: int, margin: int) -> float:
    """Mean energy of x's second difference within margin samples of start + k * block_samples, over that elsewhere."""
    energy = np.square(np.diff(x.astype(np.float64), 2))
    distance = (np.arange(len(energy)) + 1 - start) % block_samples
    near = np.minimum(distance, block_samples - distance) <= margin
    return float(energy[near].mean() / energy[~near].mean())
