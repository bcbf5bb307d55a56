"""Of a stream that is under way every tensor has a fixed shape, and what is kept has a fixed address: CUDA graphs need that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rvcd.engine.converter import Converter
from rvcd.engine.device_link import NoLink
from rvcd.engine.pitch import PitchTracker
from rvcd.engine.retrieval import MatrixSearch, UnitIndex
from rvcd.engine.units import ContentEncoder
from rvcd.engine.voice_stream import Voice
from rvcd.formats.voice_config import Vocoder
from rvcd.geometry import StreamGeometry
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.spectral_envelope import BANDS
from rvcd.params import Snapshot
from tests.support import PARITY, FakePitch, envelope_encoder, small_voice, source_filter_voice

RATE_HZ, BLOCKS = 40000, 100
SPEAKING = Snapshot(gate=-90.0, rms_mix=1.0, index_rate=0.5, protect=0.3)
DECODERS: dict[str, dict[str, Any]] = {
    "nsf-hifigan": {},
    "hifigan without f0": {"has_f0": False},
    "mrf": {"vocoder": Vocoder.MRF},
    "refinegan": {"vocoder": Vocoder.REFINEGAN},
    "refinegan 3.2.9": {"vocoder": Vocoder.REFINEGAN_329},
}


def encoder_of(kind: str) -> tuple[ContentEncoder, int]:
    """Return an encoder and the width of its units."""
    if kind == "envelope":
        return envelope_encoder(), BANDS
    hubert = load_content_encoder(Path(PARITY / "hubert_tiny"))
    return hubert, hubert.unit_widths[0]


class RecordingLink(NoLink):
    """Remembers the shapes of what is uploaded and downloaded."""

    def __init__(self, seen: list[object]) -> None:
        self._seen = seen

    def upload(self, *arrays: NDArray[Any]) -> list[torch.Tensor]:
        self._seen.append([(array.shape, array.dtype) for array in arrays])
        return super().upload(*arrays)

    def download(self, x: torch.Tensor) -> NDArray[Any]:
        self._seen.append(x.shape)
        return super().download(x)


def voice_of(decoder: str, unit_width: int, seed: int = 1, **changes: Any) -> Voice:
    """Return a small voice that a decoder makes samples for. changes: of its config, where it is an RVC voice."""
    if decoder == "source-filter":
        return source_filter_voice(seed)
    return small_voice(unit_width=unit_width, seed=seed, **changes, **DECODERS[decoder])


def converter_of(decoder: str, encoder: str, seen: list[object], block_ms: int = 40) -> Converter:
    made, width = encoder_of(encoder)
    voice = voice_of(decoder, width)
    index = UnitIndex(width, 64, MatrixSearch(torch.randn(64, width, generator=torch.Generator().manual_seed(2))))
    voice = Voice(voice.name, voice.spec, voice.synthesizer, voice.decoder, index, made)
    geometry = StreamGeometry.from_ms(rate_hz=RATE_HZ, block_ms=block_ms, lookahead_ms=100, deadline_ms=block_ms, context_ms=400)
    tracker = PitchTracker(FakePitch(), lookahead_frames=geometry.settle_frames)
    return Converter(geometry, None, tracker, voice, seed=3, link=lambda device: RecordingLink(seen))


def places_of(converter: Converter) -> list[tuple[int, torch.Size, tuple[int, ...]]]:
    """Return address, shape and strides of all that is kept on the networks' device."""
    tensors = [*converter.units.tensors(converter.voice), *converter.stream.tensors()]
    return [(tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in tensors if tensor is not None]


def convert(converter: Converter, blocks: int, random: np.random.Generator) -> None:
    for _ in range(blocks):
        converter.process(0.1 * random.standard_normal(converter.geometry.block_samples, dtype=np.float32), SPEAKING)


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [*((name, "envelope") for name in (*DECODERS, "source-filter")), ("nsf-hifigan", "hubert"), ("refinegan", "hubert")],
)
def test_a_hundred_blocks_find_everything_where_it_was(decoder: str, encoder: str) -> None:
    seen: list[object] = []
    converter, random = converter_of(decoder, encoder, seen), np.random.default_rng(1)
    convert(converter, 40, random)
    places, shapes = places_of(converter), None
    for _ in range(BLOCKS):
        seen.clear()
        convert(converter, 1, random)
        assert places_of(converter) == places
        assert shapes in (None, seen)
        shapes = list(seen)
    assert len(places) > 12 and shapes is not None and len(shapes) == 4


def test_after_a_reset_or_a_pause_the_steady_stream_is_where_it_was_before() -> None:
    converter, random = converter_of("nsf-hifigan", "hubert", []), np.random.default_rng(1)
    convert(converter, 60, random)
    places = places_of(converter)
    converter.reset()
    convert(converter, 60, random)
    assert places_of(converter) == places
    silence = np.zeros(converter.geometry.block_samples, np.float32)
    for _ in range(60):
        converter.process(silence, Snapshot(gate=-50.0))
    convert(converter, 60, random)
    assert places_of(converter) == places


@pytest.mark.parametrize("encoder", ["envelope", "hubert"])
def test_a_reset_leaves_no_trace_in_what_is_kept_in_place(encoder: str) -> None:
    converter = converter_of("refinegan", encoder, [])

    def heard() -> NDArray[np.float32]:
        random = np.random.default_rng(5)
        noise = [0.1 * random.standard_normal(converter.geometry.block_samples, dtype=np.float32) for _ in range(25)]
        return np.concatenate([converter.process(block, SPEAKING).audio for block in noise])

    first = heard()
    converter.reset()
    assert np.array_equal(heard(), first)
