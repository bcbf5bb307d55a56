"""A block waits for the device once, at its end: the whole step runs on a device that cannot tell any number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from rvcd.engine.converter import Converter
from rvcd.engine.pitch import PitchTracker
from rvcd.engine.retrieval import MatrixSearch, UnitIndex
from rvcd.engine.units import ContentEncoder
from rvcd.engine.voice_stream import Voice, VoiceStream
from rvcd.geometry import StreamGeometry
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.spectral_envelope import BANDS
from rvcd.nets.synthesizer import Synthesizer, _known_band
from rvcd.params import Snapshot
from tests.engine.test_steady_state import RATE_HZ, SPEAKING, voice_of
from tests.fake_cuda import CUDA, Crossings, FakeLink, fake_cuda
from tests.support import PARITY, FakePitch, envelope_encoder

SMALL: dict[str, Any] = {"n_layers": 1, "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)}
"""Enough for every kind of step: a fake operator takes a millisecond."""
MOST_BLOCKS = 8


def moved(module: torch.nn.Module) -> torch.nn.Module:
    """Put a module onto the fake device."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                part._parameters[name] = torch.nn.Parameter(_fake(parameter), requires_grad=False)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = _fake(buffer)
    return module


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA)


def encoder_of(kind: str) -> tuple[Any, int]:
    if kind == "envelope":
        return envelope_encoder(), BANDS
    hubert = load_content_encoder(Path(PARITY / "hubert_tiny"))
    return hubert, hubert.unit_widths[0]


class Stage:
    """A converter on the fake device. uploads, downloads: of the newest block."""

    def __init__(self, decoder: str, encoder: str, precision: torch.dtype = torch.float32) -> None:
        plain, width = encoder_of(encoder)
        spec = voice_of(decoder, width, **SMALL).spec
        synthesizer = Synthesizer(spec.config).eval().requires_grad_(False)
        self.counts, self.crossings, self.mode = {"uploads": 0, "downloads": 0}, Crossings(), FakeTensorMode()
        _known_band.cache_clear()
        with fake_cuda(self.mode):
            made: ContentEncoder = moved(plain)  # type: ignore[assignment]
            if precision != torch.float32:
                made.pack(precision)
            index = UnitIndex(width, 64, MatrixSearch(torch.empty((64, width), device=CUDA)))
            voice = Voice.of("fake", spec, moved(synthesizer), index, made, precision=precision)  # type: ignore[arg-type]
            geometry = StreamGeometry.from_ms(rate_hz=RATE_HZ, block_ms=100, lookahead_ms=60, deadline_ms=40, context_ms=200)
            tracker = PitchTracker(FakePitch(), lookahead_frames=geometry.settle_frames)
            self.converter = Converter(
                geometry, None, tracker, voice, seed=3, device=str(CUDA), link=lambda device: FakeLink(self.counts)
            )

    def run(self, snapshot: Snapshot = SPEAKING) -> None:
        """Convert noise until two blocks were heard, and count what the last one moves."""
        heard = 0
        random = np.random.default_rng(1)
        try:
            with fake_cuda(self.mode), self.crossings:
                for _ in range(MOST_BLOCKS):
                    self.counts.update(uploads=0, downloads=0)
                    self.crossings.seen.clear()
                    noise = 0.1 * random.standard_normal(self.converter.geometry.block_samples, dtype=np.float32)
                    heard += not self.converter.process(noise, snapshot).silent
                    if heard == 2:
                        break
                assert heard == 2
        finally:
            _known_band.cache_clear()


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [
        ("hifigan without f0", "envelope"),
        ("nsf-hifigan", "hubert"),
        ("mrf", "envelope"),
        ("refinegan", "hubert"),
        ("refinegan 3.2.9", "envelope"),
        ("source-filter", "envelope"),
    ],
)
def test_a_block_asks_the_device_for_nothing_before_its_samples(decoder: str, encoder: str) -> None:
    stage = Stage(decoder, encoder)
    stage.run()
    assert stage.counts == {"uploads": 3, "downloads": 1}
    assert stage.crossings.seen == []


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_it_does_so_in_half_precision_too(precision: torch.dtype) -> None:
    stage = Stage("nsf-hifigan", "hubert", precision)
    stage.run()
    assert stage.counts == {"uploads": 3, "downloads": 1} and stage.crossings.seen == []


def test_it_does_so_with_a_formant_shift_too() -> None:
    stage = Stage("mrf", "envelope")
    stage.run(snapshot=Snapshot(gate=-90.0, index_rate=0.5, formant=3.0))
    assert stage.counts == {"uploads": 3, "downloads": 1} and stage.crossings.seen == []


def asks_for_a_number(x: Tensor) -> object:
    return x.sum().item()


def branches_on_a_number(x: Tensor) -> object:
    return 1 if x.sum() > 0 else 2


def takes_by_a_mask(x: Tensor) -> object:
    return x[x > 0]


def goes_to_numpy(x: Tensor) -> object:
    return x.cpu().numpy()


@pytest.mark.parametrize("mistake", [asks_for_a_number, branches_on_a_number, takes_by_a_mask, goes_to_numpy])
def test_this_test_fails_for_a_block_that_waits(mistake: Callable[[Tensor], object], monkeypatch: pytest.MonkeyPatch) -> None:
    stage, right = Stage("nsf-hifigan", "envelope"), VoiceStream._make_samples

    def wrong(self: VoiceStream, inputs: list[Tensor], count: int, *, between: bool) -> Tensor:
        mistake(inputs[-1])
        return right(self, inputs, count, between=between)

    monkeypatch.setattr(VoiceStream, "_make_samples", wrong)
    with pytest.raises(RuntimeError, match=r"_local_scalar_dense|nonzero|numpy"):
        stage.run()


def test_this_test_sees_a_copy_that_is_not_the_links(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, right = Stage("nsf-hifigan", "envelope"), VoiceStream._make_samples

    def wrong(self: VoiceStream, inputs: list[Tensor], count: int, *, between: bool) -> Tensor:
        inputs[-1] = inputs[-1] + torch.zeros(inputs[-1].shape).to(CUDA)
        return right(self, [x.cpu().to(CUDA) for x in inputs], count, between=between)

    monkeypatch.setattr(VoiceStream, "_make_samples", wrong)
    stage.run()
    assert stage.crossings.seen
