"""Units in a stream, remembered or of a window: what each promises against offline, and what a block costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.pitch import PitchTrack
from rvcd.engine.units import UnitKind, UnitStreams
from rvcd.geometry import ENCODER_HOP_SAMPLES, FRAMES_PER_UNIT, StreamGeometry
from rvcd.nets.contentvec import ContentEncoder, EncoderSizes
from rvcd.nets.spectral_envelope import BANDS
from tests.engine.test_converter import RATE_HZ, make, run
from tests.support import FakeEncoder, envelope_encoder, speech_like

SIZES = EncoderSizes(
    conv_channels=(8,) * 7, conv_kernels=(10, 3, 3, 3, 3, 2, 2), conv_strides=(5, 2, 2, 2, 2, 2, 2), conv_bias=False,
    conv_norm="layer", feature_norm=True, projected=True, width=16, heads=2, layers=3, inner_width=32, position_kernel=128,
    position_groups=4, final_width=None, norm_eps=1e-5, normalize=False, normalize_eps=1e-5,
)  # fmt: skip
"""Its front end's norms see no time: what a stream's units differ by is the transformer's."""
SECONDS = 3.0


@dataclass
class Taker:
    encoder: Any
    unit_kind: UnitKind = field(default_factory=lambda: UnitKind(SIZES.width))


class CountingEncoder(ContentEncoder):
    """Counts the rows that the transformer goes over in each step."""

    def __init__(self) -> None:
        torch.manual_seed(4)
        super().__init__(SIZES)
        self.rows: list[int] = []

    def step(self, features: Tensor, state: Any, final: int, pitch: Any = None) -> Tensor:
        self.rows.append(features.shape[1])
        return super().step(features, state, final)


class AttendingFakeEncoder(FakeEncoder):
    """Says that it attends, though its units are the same whatever is around."""

    attends = True


def geometry_of(block_ms: int, lookahead_ms: int, context_ms: int = 1000) -> StreamGeometry:
    return StreamGeometry.from_ms(
        rate_hz=48000, block_ms=block_ms, lookahead_ms=lookahead_ms, deadline_ms=block_ms, context_ms=context_ms
    )


def stream(encoder: Any, geometry: StreamGeometry, audio: Any, *, window: bool, width: int = SIZES.width) -> Tensor:
    """Return the units that become final block by block, (N, width)."""
    streams, taker = UnitStreams(encoder, geometry, torch.device("cpu"), window=window), Taker(encoder, UnitKind(width))
    rows, done, step = [], 0, geometry.block_frames
    with torch.inference_mode():
        for end in range(step, len(audio) // ENCODER_HOP_SAMPLES, step):
            streams.push(audio[(end - step) * ENCODER_HOP_SAMPLES : end * ENCODER_HOP_SAMPLES])
            settled = max(0, end - geometry.settle_frames) // FRAMES_PER_UNIT * FRAMES_PER_UNIT
            frames = streams.per_frame(done, end, taker)
            rows.append(frames[: settled - done])
            done = settled
    return torch.cat(rows)[::FRAMES_PER_UNIT]


@pytest.mark.parametrize(("block_ms", "lookahead_ms"), [(20, 100), (60, 40), (140, 100)])
def test_units_of_a_window_are_those_of_its_audio_alone(block_ms: int, lookahead_ms: int) -> None:
    encoder, geometry, audio = CountingEncoder().eval(), geometry_of(block_ms, lookahead_ms), speech_like(16000, SECONDS)
    found = stream(encoder, geometry, audio, window=True)
    made, step = 0, geometry.block_frames
    with torch.inference_mode():
        for end in range(step, len(audio) // ENCODER_HOP_SAMPLES, step):
            settled = max(0, end - geometry.settle_frames) // FRAMES_PER_UNIT
            first = max(0, end - geometry.window_frames) // FRAMES_PER_UNIT
            if settled == made:
                continue
            heard = torch.from_numpy(audio[2 * first * ENCODER_HOP_SAMPLES : end * ENCODER_HOP_SAMPLES])[None]
            offline = encoder.units(heard, unit_width=SIZES.width)[0]
            torch.testing.assert_close(found[made:settled], offline[made - first : settled - first], rtol=1e-4, atol=1e-5)
            made = settled
    assert made == len(found) > 100


@pytest.mark.parametrize("window", [False, True])
def test_a_stream_that_sees_all_of_it_in_one_block_is_offline(window: bool) -> None:
    encoder, audio = CountingEncoder().eval(), speech_like(16000, 2.0)
    geometry = StreamGeometry(48000, len(audio) // ENCODER_HOP_SAMPLES, 4, 400, 1)
    streams = UnitStreams(encoder, geometry, torch.device("cpu"), window=window)
    streams.push(audio)
    with torch.inference_mode():
        frames = streams.per_frame(0, geometry.block_frames, Taker(encoder))
        offline = encoder.units(torch.from_numpy(audio)[None], unit_width=SIZES.width)[0]
    torch.testing.assert_close(frames[::FRAMES_PER_UNIT][: len(offline)], offline, rtol=1e-4, atol=1e-5)


def test_remembering_costs_the_new_units_and_a_window_all_of_it() -> None:
    geometry, audio = geometry_of(60, 100), speech_like(16000, SECONDS)
    encoder = CountingEncoder().eval()
    stream(encoder, geometry, audio, window=False)
    remembered = encoder.rows[-1]
    stream(encoder, geometry, audio, window=True)
    # The newest unit's 25 ms are not all there; without the loudness match's 20 ms the lookahead is four units.
    assert (remembered, encoder.rows[-1]) == (3 + 4 - 1, 50 - 1)


def test_units_of_the_two_ways_differ_but_little_changes_with_more_to_see() -> None:
    encoder, audio = CountingEncoder().eval(), speech_like(16000, SECONDS)
    with torch.inference_mode():
        offline = encoder.units(torch.from_numpy(audio)[None], unit_width=SIZES.width)[0]

    def error(window: bool, lookahead_ms: int, context_ms: int) -> float:
        found = stream(encoder, geometry_of(60, lookahead_ms, context_ms), audio, window=window)
        return float((found - offline[: len(found)])[50:].square().mean())

    for window in (False, True):
        assert error(window, 400, 3000) < 0.8 * error(window, 60, 3000)
    assert error(True, 100, 1000) != error(False, 100, 1000)


class EvenPitch:
    """Says 150 Hz, and every third frame unvoiced."""

    def frames(self, first: int, end: int) -> PitchTrack:
        voiced = np.arange(first, end) % 3 > 0
        return PitchTrack(np.where(voiced, 150, 0).astype(np.float32), voiced)


def stream_envelopes(geometry: StreamGeometry, audio: NDArray[np.float32], *, window: bool = False) -> Tensor:
    """Return the final rows of an encoder that hears the pitch, (T, BANDS)."""
    encoder = envelope_encoder()
    streams = UnitStreams(encoder, geometry, torch.device("cpu"), window=window, pitch=EvenPitch())
    taker, rows, done, step = Taker(encoder, UnitKind(BANDS)), [], 0, geometry.block_frames
    with torch.inference_mode():
        for end in range(step, len(audio) // ENCODER_HOP_SAMPLES, step):
            streams.push(audio[(end - step) * ENCODER_HOP_SAMPLES : end * ENCODER_HOP_SAMPLES])
            settled = max(0, end - geometry.settle_frames) // FRAMES_PER_UNIT * FRAMES_PER_UNIT
            rows.append(streams.per_frame(done, end, taker)[: settled - done])
            done = settled
    return torch.cat(rows)


@pytest.mark.parametrize(("block_ms", "lookahead_ms"), [(20, 100), (60, 60), (140, 100)])
def test_envelopes_of_a_stream_are_those_of_the_whole_recording(block_ms: int, lookahead_ms: int) -> None:
    audio, encoder = speech_like(16000, SECONDS), envelope_encoder()
    found = stream_envelopes(geometry_of(block_ms, lookahead_ms), audio)
    track = EvenPitch().frames(0, len(audio) // ENCODER_HOP_SAMPLES)
    pitch = torch.from_numpy(track.f0_hz)[None], torch.from_numpy(track.voiced)[None]
    with torch.inference_mode():
        offline = encoder.per_frame(encoder.units(torch.from_numpy(audio)[None], unit_width=BANDS, pitch=pitch)[0])
    torch.testing.assert_close(found, offline[: len(found)], rtol=1e-4, atol=1e-4)


def test_an_encoder_without_attention_remembers_in_any_case() -> None:
    audio = speech_like(16000, 1.5)
    both = [stream_envelopes(geometry_of(60, 100), audio, window=window) for window in (False, True)]
    assert torch.equal(*both)


def test_an_encoder_that_hears_the_pitch_must_be_told_it() -> None:
    encoder = envelope_encoder()
    streams = UnitStreams(encoder, geometry_of(60, 100), torch.device("cpu"))
    with pytest.raises(ValueError, match="hears the pitch"):
        streams.per_frame(0, 6, Taker(encoder, UnitKind(BANDS)))


def test_both_ways_have_the_same_latency_and_take_up_a_voice_again_after_a_pause() -> None:
    word = speech_like(RATE_HZ, 0.6)
    audio = torch.cat([torch.from_numpy(word), torch.zeros(round(1.5 * RATE_HZ)), torch.from_numpy(word)]).numpy()
    found = []
    for window in (False, True):
        converter = make(window=window)
        converter.units.encoder = AttendingFakeEncoder()  # type: ignore[assignment]  # it does what the stream asks of it
        found.append(run(converter, audio))
    assert abs(found[0] - found[1]).max() < 1e-5
