"""`rvcd voice export`, and `rvcd voice info` of an ONNX file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rvcd.formats.onnx_header import read_onnx_header
from tests.cli.conftest import Rvcd
from tests.exporting.tiny import write_tiny_voice
from tests.formats.test_onnx_header import OF_VC_CLIENT, model, pair

PARITY = Path(__file__).parents[1] / "data" / "parity"


@pytest.fixture
def rvcd(rvcd: Rvcd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rvcd:
    """Run `rvcd voice` with a configuration that knows one voice, Anna, and a content encoder."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("RVCD_CONFIG", str(tmp_path / "rvcd.toml"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voices/Anna").mkdir(parents=True)
    write_tiny_voice(tmp_path / "voices/Anna/Anna.pth")
    encoder = json.dumps(str(PARITY / "hubert_tiny"))
    (tmp_path / "rvcd.toml").write_text(f'[voices]\nfolders = ["voices"]\n[models]\ncontent_encoder = {encoder}\n')
    return lambda *arguments: rvcd("voice", *arguments)


def test_a_voice_and_its_content_encoder_become_two_files_that_say_what_they_are(rvcd: Rvcd, tmp_path: Path) -> None:
    code, out, err = rvcd("export", "Anna", "anna.onnx", "--content-encoder", "units.onnx")
    assert code == 0, err
    first, second = out.splitlines()
    assert first.startswith("anna.onnx: ") and "onnxruntime makes what torch makes" in first and second.startswith("units.onnx: ")
    assert read_onnx_header(tmp_path / "units.onnx").exported_by_rvcd["kind"] == "content encoder"
    code, out, err = rvcd("info", "anna.onnx")
    assert code == 0 and "a voice that rvcd exported" in out and "40000" in out
    assert "rvcd converts with the .pth" in err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["Anna", "anna.bin"], "the name of an ONNX file ends in .onnx; write anna.onnx"),
        (["Anna", "nowhere/anna.onnx"], "the folder nowhere does not exist"),
        (["Anna", "old.onnx"], "old.onnx: is there already; choose another name, or replace it with --force"),
        (["Anna", "a.onnx", "--content-encoder", "./a.onnx"], "is named twice"),
        (["Otto", "a.onnx"], "Otto"),
        (["built-in", "a.onnx", "--content-encoder", "u.onnx"], "own content encoder cannot be exported"),
        (["broken.pth", "a.onnx"], "broken.pth: "),
    ],
)
def test_what_cannot_be_is_said_at_once(rvcd: Rvcd, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "old.onnx").write_bytes(b"precious")
    (tmp_path / "broken.pth").write_bytes(b"no voice")
    code, out, err = rvcd("export", *arguments)
    assert (code, out) == (1, "") and said in err
    assert (tmp_path / "old.onnx").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["old.onnx"]


def test_an_encoder_that_makes_other_units_is_refused_before_anything_is_exported(rvcd: Rvcd, tmp_path: Path) -> None:
    code, out, err = rvcd("export", PARITY / "v2_40k_f0.pth", "anna.onnx", "--content-encoder", "units.onnx")
    assert (code, out) == (1, "") and "makes units of width 48 or 16, but the voice takes width 768" in err
    assert list(tmp_path.glob("*.onnx")) == []


def test_without_the_extra_it_says_how_to_install_it(rvcd: Rvcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, err = rvcd("export", "Anna", "anna.onnx")
    assert code == 1 and "pip install -e '.[onnx]'" in err


def test_a_voice_of_vc_client_is_named_for_what_it_is(rvcd: Rvcd, tmp_path: Path) -> None:
    (tmp_path / "tsukuyomi.ONNX").write_bytes(model(pair("metadata", json.dumps(OF_VC_CLIENT))))
    code, out, err = rvcd("info", "tsukuyomi.ONNX")
    assert code == 0 and "an RVC voice that VC_CLIENT exported (w-okada's voice changer)" in out
    assert "pyTorchRVCv2" in out and "40000" in out and "pytorch 2.0.1" in out
    assert "rvcd converts with the .pth that a voice was exported from" in err
    code, out, _ = rvcd("info", "tsukuyomi.ONNX", "--json")
    assert code == 0 and json.loads(out)["samplingRate"] == 40000


@pytest.mark.parametrize("command", ["info", "check", "import"])
def test_what_is_no_model_is_one_sentence(rvcd: Rvcd, tmp_path: Path, command: str) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x1b[2Jnothing\n")
    code, out, err = rvcd(command, "./x.onnx")
    assert code == 1 and "x.onnx" in (out + err).splitlines()[-1] and "\x1b" not in out + err
