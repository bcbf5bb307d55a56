"""RMVPE equals upstream's mel, salience and f0, and refuses other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import load_tensors
from rvcd.nets.random_rmvpe import write_rmvpe
from rvcd.nets.rmvpe import PitchNetwork, decode_f0, load_rmvpe
from rvcd.nets.rmvpe_planes import RmvpePlanes
from rvcd.nets.rmvpe_weights import RmvpeSizes
from rvcd.nets.tiled_conv import available
from tests.formats.hostile import PARITY

WEIGHTS = PARITY / "rmvpe_tiny.pt"
VECTORS = dict(np.load(PARITY / "rmvpe_tiny.npz"))


@pytest.fixture(scope="module")
def network() -> PitchNetwork:
    return load_rmvpe(WEIGHTS)


@pytest.mark.parametrize("plain", [False, True])
def test_mel_salience_and_f0_equal_upstreams(plain: bool) -> None:
    network = load_rmvpe(WEIGHTS, plain=plain)
    mel = network.log_mel(torch.from_numpy(VECTORS["audio16k"])[None])
    assert np.abs(mel[0].numpy() - VECTORS["mel"]).max() < 1e-4
    assert np.abs(network.salience(mel)[0].numpy() - VECTORS["salience"]).max() < 1e-4
    f0_hz, salience = network.f0(VECTORS["audio16k"])
    assert np.abs(f0_hz - VECTORS["f0_hz"]).max() < 0.05
    assert np.abs(salience - VECTORS["salience"].max(axis=1)).max() < 1e-4


def test_the_decoder_equals_upstreams_on_sharp_peaks() -> None:
    f0_hz = decode_f0(VECTORS["peaked_salience"])
    assert np.abs(f0_hz - VECTORS["peaked_f0_hz"]).max() < 0.05
    assert ((f0_hz > 0) == (VECTORS["peaked_f0_hz"] > 0)).all()


def test_the_decoder_holds_at_both_ends_and_on_silence() -> None:
    salience = np.zeros((4, 360), np.float32)
    salience[0, 0] = salience[1, 359] = 0.9
    salience[2, 100] = 0.03
    f0_hz = decode_f0(salience)
    assert f0_hz[0] == pytest.approx(10 * 2 ** (1997.3794084376191 / 1200))
    assert f0_hz[1] == pytest.approx(10 * 2 ** ((1997.3794084376191 + 20 * 359) / 1200))
    assert f0_hz[2] == f0_hz[3] == 0


@pytest.mark.skipif(not available(torch.empty(0)), reason="this processor has no instructions that the kernels need")
@pytest.mark.parametrize("frames", [4, 31, 32, 63, 100])
def test_the_kernels_salience_equals_that_of_torchs_modules(tmp_path: Path, frames: int) -> None:
    sizes = RmvpeSizes(
        channels=(3, 16, 20), blocks=2, middle_channels=24, middle_layers=2, output_channels=2, mel_bands=24, gru_width=20,
        gru_layers=2,
    )  # fmt: skip
    write_rmvpe(tmp_path / "rmvpe.pt", sizes, torch.Generator().manual_seed(1))
    ours, torchs = load_rmvpe(tmp_path / "rmvpe.pt"), load_rmvpe(tmp_path / "rmvpe.pt", plain=True)
    assert isinstance(getattr(ours.salience, "__self__", None), RmvpePlanes)
    mel = torch.randn((1, 24, frames), generator=torch.Generator().manual_seed(2)) * 3 - 6
    for _ in range(2):  # the second time in buffers that hold the first one's numbers
        made, wanted = ours.salience(mel), torchs.salience(mel)
        assert made.shape == (1, frames, 360)
        assert wanted.std() > 0.01
        assert (made - wanted).abs().max() < 1e-5
        mel = mel.flip(2)


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 512, 513, 1024, 5000])
def test_there_is_a_frame_every_160_samples_and_one_at_the_start(network: PitchNetwork, samples: int) -> None:
    f0_hz, salience = network.f0(VECTORS["audio16k"][:samples])
    assert f0_hz.shape == salience.shape == (samples // 160 + 1,)
    assert np.isfinite(f0_hz).all()


def test_weights_inside_a_training_checkpoint_are_found(tmp_path: Path) -> None:
    torch.save({"model": load_tensors(WEIGHTS)}, tmp_path / "a.pt")
    assert np.abs(load_rmvpe(tmp_path / "a.pt").f0(VECTORS["audio16k"])[0] - VECTORS["f0_hz"]).max() < 0.05


def _drop(key: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.__delitem__(key)


def _replace(key: str, value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        _drop("unet.encoder.layers.0.conv.0.conv.0.weight"),
        _drop("unet.encoder.layers.2.conv.1.conv.4.running_var"),
        _drop("unet.decoder.layers.4.conv1.0.weight"),
        _drop("fc.0.gru.weight_hh_l0"),
        _drop("fc.1.bias"),
        _replace("fc.1.weight", torch.ones(100, 512)),
        _replace("cnn.weight", torch.ones(5, 2, 3, 3)),
        _replace("unet.encoder.bn.running_var", torch.tensor([-1.0])),
        _replace("unet.intermediate.layers.0.conv.0.conv.0.weight", torch.ones(8000, 1, 1, 1)),
        _replace("unet.decoder.layers.0.conv1.1.weight", torch.ones(3)),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_tensors(WEIGHTS)
    change(tensors)
    torch.save(tensors, tmp_path / "a.pt")
    with pytest.raises(ModelFileError) as caught:
        load_rmvpe(tmp_path / "a.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'a.pt'}: ")
    assert "\n" not in str(caught.value)


def test_a_voice_is_not_taken_for_rmvpe() -> None:
    with pytest.raises(ModelFileError, match="is not RMVPE's weights"):
        load_rmvpe(PARITY / "v2_40k_f0.pth")
