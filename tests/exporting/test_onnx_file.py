"""Files that onnxruntime reads, or none at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rvcd.errors import MissingExtraError, ModelFileError, RvcdError
from rvcd.exporting import onnx_file
from rvcd.exporting.command import export_encoder, export_voice
from rvcd.exporting.networks import ExportedEncoder, ExportedVoice, Inputs
from rvcd.exporting.onnx_file import Exportable, write_onnx
from rvcd.formats.onnx_header import read_onnx_header
from rvcd.formats.voice_file import read_voice
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.synthesizer import build_synthesizer
from tests.exporting.tiny import write_tiny_voice
from tests.support import PARITY, VOICES
from tests.waiting import HANG_S

RUN_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
with numpy.load(sys.argv[2]) as inputs:
    (made,) = session.run(None, {name: inputs[name] for name in inputs.files})
numpy.save(sys.argv[3], made)
assert not any(name.partition(".")[0] == "rvcd" for name in sys.modules)
"""


class Doubling(Exportable):
    """x (1, T) -> 2 x."""

    names = ("x",)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class Wrong(Exportable):
    """Does not what it was exported to do: it makes something else each time."""

    names = ("x",)
    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Wrong.calls += 1
        return x * Wrong.calls


X = {"x": torch.arange(5.0)[None]}


def axes() -> onnx_file.Axes:
    return {"x": {1: torch.export.Dim("length", min=2, max=100)}}


def made_without_torch(path: Path, inputs: Inputs, folder: Path) -> np.ndarray:
    """What a program without torch, and without rvcd, makes of a file."""
    np.savez(folder / "inputs.npz", **{name: value.numpy() for name, value in inputs.items()})
    arguments = [str(path), str(folder / "inputs.npz"), str(folder / "made.npy")]
    # -I and another folder: neither this clone nor the environment brings anything in.
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUN_WITHOUT_TORCH, *arguments], cwd=folder, capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr
    made: np.ndarray = np.load(folder / "made.npy")
    return made


def test_a_voice_runs_in_onnxruntime_without_torch_at_any_length(tmp_path: Path):
    voice = write_tiny_voice(tmp_path / "Anna.pth")
    written = export_voice(voice, "Anna", tmp_path / "anna.onnx")
    assert written.difference < 1e-4 and written.size_bytes == written.path.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Anna.pth", "anna.onnx"]
    file = read_voice(voice)
    network = ExportedVoice(build_synthesizer(file.spec.config, file.weights))
    for frames in (2, 77):  # no example had these lengths
        inputs = network.example(frames, 9)
        with torch.no_grad():
            wanted = network(*inputs.values()).numpy()
        made = made_without_torch(written.path, inputs, tmp_path)
        assert np.abs(wanted).max() > 0.01 and np.abs(made - wanted).max() < 1e-4
    header = read_onnx_header(written.path)
    assert header.opset == 18 and header.producer.startswith("rvcd ")
    told = header.exported_by_rvcd
    assert told["kind"] == "voice" and told["name"] == "Anna" and told["rate_hz"] == "40000" and told["hop_samples"] == "400"


def test_a_content_encoder_runs_in_onnxruntime_without_torch_at_any_length(tmp_path: Path):
    encoder = load_content_encoder(PARITY / "hubert_tiny")
    width = encoder.unit_widths[0]
    written = export_encoder(PARITY / "hubert_tiny", width, 0, tmp_path / "units.onnx")
    network = ExportedEncoder(encoder, width, 0)
    for samples in (400, 7777):
        inputs = network.example(samples, 4)
        with torch.no_grad():
            wanted = network(inputs["audio"]).numpy()
        assert np.abs(made_without_torch(written.path, inputs, tmp_path) - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert read_onnx_header(written.path).exported_by_rvcd["unit_width"] == str(width)


@pytest.mark.soak
@pytest.mark.parametrize(
    "path",
    [*(PARITY / f"{stem}.pth" for stem in VOICES), *sorted((PARITY.parent / "parity_applio").glob("*.pth"))],
    ids=lambda path: path.stem,
)
def test_every_kind_of_voice_can_be_exported(path: Path, tmp_path: Path):
    assert export_voice(path, path.stem, tmp_path / "voice.onnx").difference < 1e-4


def test_a_file_that_does_something_else_is_not_kept(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"wrong\.onnx: was not kept, because onnxruntime made something else"):
        write_onnx(Wrong(), "y", axes(), [X], {}, tmp_path / "wrong.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_run_is_not_kept(tmp_path: Path):
    # The second example has another length than the file was exported for.
    with pytest.raises(RvcdError, match=r"^ONNX Runtime cannot run what was exported \("):
        write_onnx(Doubling(), "y", {}, [X, {"x": torch.ones(1, 9)}], {}, tmp_path / "fixed.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_replaced_only_on_request(tmp_path: Path):
    path = tmp_path / "double.onnx"
    path.write_bytes(b"precious")
    with pytest.raises(ModelFileError, match=r"double\.onnx: is there already; .*--force"):
        write_onnx(Doubling(), "y", axes(), [X], {}, path)
    assert path.read_bytes() == b"precious"
    written = write_onnx(Doubling(), "y", axes(), [X, {"x": torch.ones(1, 9)}], {"made by": "a test"}, path, replace=True)
    assert written.difference == 0
    assert read_onnx_header(path).metadata == {"made by": "a test"}
    assert np.array_equal(made_without_torch(path, X, tmp_path), 2 * X["x"].numpy())


def test_what_torch_cannot_export_is_one_sentence(tmp_path: Path):
    class Hopeless(Exportable):
        names = ("x",)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(json.loads(str(float(x.sum()))))

    with pytest.raises(RvcdError, match=r"^torch .* cannot export this network \(") as caught:
        write_onnx(Hopeless(), "y", axes(), [X], {}, tmp_path / "hopeless.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFileError, match=r"cannot be written: not a directory; choose another place"):
        write_onnx(Doubling(), "y", axes(), [X], {}, tmp_path / "file" / "double.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_said_before_anything_is_done(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[onnx\]'"):
        write_onnx(Doubling(), "y", axes(), [X], {}, tmp_path / "double.onnx")
    assert list(tmp_path.iterdir()) == []
