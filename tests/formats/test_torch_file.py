"""Torch files: whatever is wrong with one, it is refused in one sentence, nothing runs, nothing huge is allocated."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import types
import typing
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.errors import ModelFileError
from rvcd.formats.checkpoint import load_tensors
from rvcd.formats.pickle_scan import ScanError, scan_pickle
from rvcd.formats.torch_file import MAX_FILE_BYTES, read_outline
from rvcd.formats.voice_file import read_voice, read_voice_spec
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.rmvpe import load_rmvpe
from tests.formats.hostile import LEGACY_VOICE, PARITY, WRITERS, ZIP_VOICE, attacks, write_zip

READERS: tuple[Callable[[Path], Any], ...] = (read_voice, read_voice_spec, load_tensors, load_content_encoder, load_rmvpe)


def refusal(path: Path, reader: Callable[[Path], Any] = read_voice) -> str:
    with pytest.raises(ModelFileError) as caught:
        reader(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("attack", attacks(Path("marker")))
def test_a_file_that_calls_a_function_is_refused_and_the_function_does_not_run(tmp_path: Path, attack: str, writer: str) -> None:
    marker = tmp_path / "marker"
    path = WRITERS[writer](attacks(marker)[attack], tmp_path / "voice.pth")
    for reader in READERS:
        message = refusal(path, reader)
        # A bare text pickle is no torch file in any case: only its first instruction is looked at.
        assert "would run code: " in message or (writer == "pickle 0" and "is not a torch file" in message)
    assert not marker.exists()


def test_the_refusal_names_the_function(tmp_path: Path) -> None:
    for name, save in WRITERS.items():
        path = save(attacks(tmp_path / "marker")["a shell command"], tmp_path / "voice.pth")
        assert f"would run code: {os.system.__module__}.system; refused" in refusal(path), name


def test_a_function_hidden_behind_an_allowed_class_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    # Dictionary.__new__, then BUILD with a state whose values call posix.system.
    call = b"cposix\nsystem\nX" + len(f"touch {marker}").to_bytes(4, "little") + f"touch {marker}".encode() + b"\x85R"
    body = b"\x80\x02cfairseq.data.dictionary\nDictionary\n)\x81}X\x01\x00\x00\x00s" + call + b"sb."
    assert "would run code: posix.system" in refusal(write_zip(tmp_path / "voice.pth", body, {}))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is empty"),
        (b"hello, I am a text file\n" * 10, "is not a torch file"),
        (b"cat: no such file\n", "is not a torch file"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
        (bytes(range(256)) * 20, "is not a torch file"),
        (b"\x80\x02", "is not a whole torch file"),
        (b"\x80\x02}.", "is a Python pickle, but not one that torch wrote"),
        (b"PK\x03\x04" + bytes(500), "is cut short"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "is a safetensors file"),
        (b"\x08\x07\x12\x07pytorch\x1a\x051.13.1:" + bytes(500), "is an ONNX model, which rvcd does not read; use the torch"),
        (b"\x08\x04:\x80\x01" + bytes(500), "is an ONNX model"),
        (b"\x1c\0\0\0TFL3" + bytes(500), "is a TFLite model"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "is an HDF5 file"),
        (b"IwFl" + bytes(500), "is a FAISS index, not a model"),
        (b"\x93NUMPY\x01\0" + bytes(500), "is a numpy array"),
        (b"Rar!\x1a\x07" + bytes(500), "is an archive; unpack it"),
        (b"RIFF\0\0\0\0WAVEfmt " + bytes(500), "is a sound file"),
        (b"MZ" + bytes(500), "is a program, not a model, and is not run"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_in_one_sentence(tmp_path: Path, body: bytes, said: str) -> None:
    path = tmp_path / "voice.pth"
    path.write_bytes(body)
    for reader in READERS:
        assert said in refusal(path, reader)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.pth")
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    assert "is not a file" in refusal(tmp_path / "pipe.pth")


def test_a_zip_of_a_voice_is_refused_with_the_advice_to_unpack_it(tmp_path: Path) -> None:
    path = tmp_path / "voice.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(ZIP_VOICE, "voice.pth")
    assert "unpack it" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(ZIP_VOICE, "voice.pth")
    assert "unpack it" in refusal(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "voice.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(200 << 20))
    assert "compressed" in refusal(path)


def test_a_file_above_the_size_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "voice.pth"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no room
    assert "more than the" in refusal(path)


def tensor_program(storage_floats: int, shape: int, stride: int) -> bytes:
    """A pickle of {'x': tensor} with one dimension over storage 0."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8a\x08" + storage_floats.to_bytes(8, "little") + b"tQK\x00"
        b"\x8a\x08" + shape.to_bytes(8, "little") + b"\x85\x8a\x08" + stride.to_bytes(8, "little") + b"\x85\x89}tRs."
    )


def test_a_tensor_inside_its_storage_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.pt", tensor_program(4, 4, 1), {"0": bytes(16)})
    assert load_tensors(path)["x"].tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("floats", "shape", "stride"),
    [(1 << 40, 4, 1), (4, 1 << 40, 1), (4, 1 << 40, 0), (4, 4, 2), (4, 5, 1), (3, 3, 1)],
    ids=["huge storage", "huge tensor", "repeated number", "long stride", "one too many", "other storage"],
)
def test_a_tensor_larger_than_its_data_is_refused(tmp_path: Path, floats: int, shape: int, stride: int) -> None:
    path = write_zip(tmp_path / "x.pt", tensor_program(floats, shape, stride), {"0": bytes(16)})
    refusal(path, load_tensors)


@pytest.mark.parametrize(
    "body",
    [
        b"(" * 1000 + b".",
        b"." ,
        b"\x80\x02)" + b"\x85" * 100_000 + b"}q\x00h\x00K\x01s.",
        b"\x80\x02)q\x00" + b"\x86h\x00" * 1000 + b".",
        b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.",
        b"\x80\x02}(" + b"".join(b"\x8a\x0c" + ((2**61 - 1) * i).to_bytes(12, "little") + b"N" for i in range(50_000)) + b"u.",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02}r\xff\xff\xff\xff.",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02j\xff\xff\xff\x7f.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02\x96\xff\xff\xff\xff\xff\xff\xff\x00.",
        b"\x80\x02Nb.", b"\x80\x02NNR.", b"\x80\x02Q.", b"\x80\x02}NNu.", b"\x80\x02)e.", b"\x80\x02(e.",
    ],
)  # fmt: skip
def test_a_program_built_to_exhaust_or_confuse_the_reader_ends_quickly(tmp_path: Path, body: bytes) -> None:
    refusal(write_zip(tmp_path / "x.pt", body, {}))


@given(st.binary(max_size=400))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_scanned_or_refused(body: bytes) -> None:
    with contextlib.suppress(ScanError):
        scan_pickle(b"\x80\x02" + body)


def test_an_archive_whose_members_share_their_bytes_is_refused(tmp_path: Path) -> None:
    good = write_zip(tmp_path / "x.pt", tensor_program(4096, 4096, 1), {"0": bytes(16384)}).read_bytes()
    at = good.find(b"PK\x01\x02")
    end = good.find(b"PK\x05\x06")
    directory = good[at:end]
    names = [f"x/data{number:02}".encode() for number in range(50)]
    many = directory + b"".join(directory[-54:].replace(b"x/data/0", name) for name in names)
    path = tmp_path / "y.pt"
    record = struct.pack("<HHHHIIH", 0, 0, 53, 53, len(many), at, 0)
    path.write_bytes(good[:at] + many + b"PK\x05\x06" + record)
    assert "is cut short or damaged" in refusal(path, load_tensors)


def test_a_changed_number_is_found_by_its_checksum(tmp_path: Path) -> None:
    raw = bytearray(ZIP_VOICE.read_bytes())
    with zipfile.ZipFile(ZIP_VOICE) as archive:
        entry = max(archive.infolist(), key=lambda info: info.file_size if "/data/" in info.filename else 0)
    raw[entry.header_offset + 300] ^= 1
    path = tmp_path / "voice.pth"
    path.write_bytes(raw)
    assert "is damaged (checksum of" in refusal(path)


def test_a_file_written_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.ones(3)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert load_tensors(tmp_path / "x.pt")["x"].tolist() == [1.0] * 3


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_come_back_as_they_were_saved(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(24, dtype=torch.float32)
    saved = {
        "a": base.view(4, 6),
        "b": base.view(4, 6).T,
        "c": base[5:9],
        "d": torch.tensor(3),
        "e": torch.zeros(0),
        "f": base.half(),
    }
    torch.save(saved, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    loaded = load_tensors(tmp_path / "x.pt")
    assert list(loaded) == list(saved)
    assert all(torch.equal(loaded[key], value) and loaded[key].dtype == value.dtype for key, value in saved.items())


def test_nan_and_infinity_are_refused_by_the_tensor_s_name(tmp_path: Path) -> None:
    for bad in (float("nan"), float("inf")):
        torch.save({"good": torch.ones(2), "bad": torch.tensor([1.0, bad])}, tmp_path / "x.pt")
        assert "tensor 'bad' holds NaN or infinity" in refusal(tmp_path / "x.pt", load_tensors)


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"x": torch.ones(10)}, str(path))
    assert load_tensors(path)["x"].tolist() == [1.0] * 10
    path.write_bytes(path.read_bytes()[:-4])
    assert "is not a whole safetensors file" in refusal(path, load_tensors)


def test_a_description_is_read_without_torch_and_numpy() -> None:
    program = (
        "import sys\nfrom rvcd.formats.voice_header import read_voice_spec\nfrom rvcd.voices.registry import VoiceRegistry\n"
        "from rvcd.formats.index_header import read_index_header\n"
        f"print(read_voice_spec({str(LEGACY_VOICE)!r}).rate_hz, read_voice_spec({str(ZIP_VOICE)!r}).unit_width)\n"
        "print([m for m in ('torch', 'numpy', 'faiss') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:2] == ["40000 768", "[]"]


def test_a_fairseq_file_with_omegaconf_settings_loads_without_either_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_in(dotted: str) -> type:
        module, _, name = dotted.rpartition(".")
        kind = type(name, (), {"__module__": module})
        for parent in (module.split(".")[0], module):
            monkeypatch.setitem(sys.modules, parent, sys.modules.get(parent) or types.ModuleType(parent))
        setattr(sys.modules[module], name, kind)
        return kind

    dictionary, config, node = (
        stand_in(name)
        for name in ("fairseq.data.dictionary.Dictionary", "omegaconf.dictconfig.DictConfig", "omegaconf.nodes.AnyNode")
    )

    def filled(kind: type, **state: Any) -> Any:
        made = kind()
        made.__dict__.update(state)
        return made

    heads = filled(
        config, _content={"encoder_attention_heads": filled(node, _val=3)}, _metadata=defaultdict(dict, {"a": typing.Any})
    )
    content = {
        "args": None, "cfg": filled(config, _content={"model": heads}),
        "task_state": {"dictionaries": [filled(dictionary, symbols=["a"])]},
        "model": load_tensors(PARITY / "hubert_tiny_fairseq.pt", "model"),
    }  # fmt: skip
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        with monkeypatch.context() as without:
            for name in ("fairseq", "fairseq.data.dictionary", "omegaconf", "omegaconf.dictconfig", "omegaconf.nodes"):
                without.delitem(sys.modules, name)
            assert load_content_encoder(path).sizes.heads == 3


def test_fairseq_s_dictionary_and_settings_are_read_as_inert_objects() -> None:
    root = read_outline(PARITY / "hubert_tiny_fairseq.pt").root
    assert root["task_state"]
    assert root["cfg"]["model"]["encoder_attention_heads"] == 4
