"""A voice's prior and flow by steps of the C kernels compute what the plain modules do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rvcd.formats.voice_file import read_voice
from rvcd.nets.prior_steps import PriorStream
from rvcd.nets.synthesizer import Synthesizer, build_synthesizer
from rvcd.nets.tiled_conv import available
from tests.support import PARITY

LEAST_DB = 70.0
"""Of a whole chain whose weights have 16 bits."""

pytestmark = pytest.mark.skipif(not available(torch.empty(0)), reason="this processor has no instructions that the kernels need")


@pytest.fixture(scope="module")
def voices() -> tuple[Synthesizer, Synthesizer]:
    """A voice as it is, and packed."""
    file = read_voice(PARITY / "v2_40k_f0.pth")
    plain, packed = (build_synthesizer(file.spec.config, dict(file.weights)) for _ in range(2))
    packed.enc_p.pack(torch.float32)
    packed.flow.pack(torch.float32)
    return plain, packed


def random_of(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def are_near(made: Tensor, wanted: Tensor) -> bool:
    return bool(10 * torch.log10(wanted.square().sum() / (made - wanted).square().sum()) >= LEAST_DB)


@pytest.mark.parametrize("threads", [1, 2])
@torch.inference_mode()
def test_the_flow_is_the_same_for_any_length_and_speaker(voices, threads: int) -> None:
    plain, packed = voices
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for number, frames in enumerate((1, 3, 52, 52, 7)):
        z_p, speaker = random_of(number, 1, plain.config.inter_channels, frames), plain.speaker(0) * (1 + number % 3)
        assert are_near(packed.flow(z_p, speaker), plain.flow(z_p, speaker))
    torch.set_num_threads(before)


@torch.inference_mode()
def test_a_batch_of_latents_goes_through_the_flow_one_by_one(voices) -> None:
    plain, packed = voices
    z_p, speaker = random_of(1, 3, plain.config.inter_channels, 9), plain.speaker(0)
    assert are_near(packed.flow(z_p, speaker), plain.flow(z_p, speaker))


@torch.inference_mode()
def test_a_stream_of_frames_equals_the_plain_one_whatever_the_steps(voices) -> None:
    plain, _ = voices
    memories, made = [voice.enc_p.start(20) for voice in voices], ([], [])
    assert isinstance(memories[1][0], PriorStream)
    for number, (count, final) in enumerate([(14, 6), (14, 6), (3, 1), (30, 30), (14, 0), (14, 6), (1, 1), (14, 6), (14, 14)]):
        units = random_of(number, 1, count, plain.config.unit_width)
        coarse = torch.randint(1, 256, (1, count), generator=torch.Generator().manual_seed(number))
        for voice, memory, outputs in zip(voices, memories, made, strict=True):
            outputs.append(torch.cat(voice.enc_p.step(units, coarse, memory, final), dim=1)[0])
    assert all(are_near(mine, plain_one) for plain_one, mine in zip(*made, strict=True))


@torch.inference_mode()
def test_a_stream_that_is_reset_begins_anew(voices) -> None:
    _, packed = voices
    units, coarse, memory = random_of(1, 1, 10, packed.config.unit_width), torch.full((1, 10), 100), packed.enc_p.start(20)
    first = packed.enc_p.step(units, coarse, memory, 6)[0]
    assert not torch.equal(packed.enc_p.step(units, coarse, memory, 6)[0], first)
    kept = [tensor.data_ptr() for layer in memory for tensor in layer.tensors()]
    for layer in memory:
        layer.reset()
    assert torch.equal(packed.enc_p.step(units, coarse, memory, 6)[0], first)
    assert [tensor.data_ptr() for layer in memory for tensor in layer.tensors()] == kept


@torch.inference_mode()
def test_two_streams_of_one_voice_do_not_disturb_each_other(voices) -> None:
    _, packed = voices
    inputs = [random_of(i, 1, 10, packed.config.unit_width) for i in range(6)]
    coarse = torch.full((1, 10), 100)
    alone = packed.enc_p.start(20)
    wanted = [packed.enc_p.step(units, coarse, alone, 4)[0] for units in inputs]
    one, other = packed.enc_p.start(20), packed.enc_p.start(20)
    for units, expected in zip(inputs, wanted, strict=True):
        packed.enc_p.step(-units, coarse, other, 7)
        assert torch.equal(packed.enc_p.step(units, coarse, one, 4)[0], expected)
