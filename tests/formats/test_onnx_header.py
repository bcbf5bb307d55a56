"""What an ONNX file says of itself, read from bytes that anybody may have written."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.errors import ModelFileError
from rvcd.formats.onnx_header import read_onnx_header


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def of_bytes(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def of_number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def pair(key: str, value: str) -> bytes:
    return of_bytes(14, of_bytes(1, key.encode()) + of_bytes(2, value.encode()))


def model(*parts: bytes, graph: bytes = bytes(1000)) -> bytes:
    opset = of_bytes(8, of_bytes(1, b"com.microsoft") + of_number(2, 1)) + of_bytes(8, of_number(2, 17))
    start = of_number(1, 8) + of_bytes(2, b"pytorch") + of_bytes(3, b"2.0.1")
    return start + of_bytes(7, graph) + opset + b"".join(parts)


OF_VC_CLIENT = {"application": "VC_CLIENT", "version": "2.1", "modelType": "pyTorchRVCv2", "samplingRate": 40000, "f0": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "voice.onnx"


def test_a_voice_of_vc_client_is_known_by_what_it_says(path: Path):
    path.write_bytes(model(pair("metadata", json.dumps(OF_VC_CLIENT)), pair("other", "thing")))
    header = read_onnx_header(path)
    assert header.of_vc_client == OF_VC_CLIENT and header.exported_by_rvcd == {}
    assert header.producer == "pytorch 2.0.1" and header.opset == 17 and header.size_bytes == path.stat().st_size


def test_an_export_of_rvcd_is_known_by_its_names(path: Path):
    path.write_bytes(model(pair("rvcd.kind", "voice"), pair("rvcd.rate_hz", "48000")))
    header = read_onnx_header(path)
    assert header.exported_by_rvcd == {"kind": "voice", "rate_hz": "48000"} and header.of_vc_client == {}


@pytest.mark.parametrize("said", ["", "no json", "[1]", '{"application": 3}', "[" * 30_000])
def test_a_model_that_says_nothing_of_use_is_nobodys(said: str, path: Path):
    path.write_bytes(model(pair("metadata", said)))
    header = read_onnx_header(path)
    assert header.of_vc_client == {} and header.exported_by_rvcd == {}


@pytest.mark.parametrize(
    "data, problem",
    [
        (b"", "is empty"),
        (model()[:200], "is not a whole ONNX model: it ends in the middle of a field"),
        (of_number(1, 8), "is not an ONNX model: it has no graph"),
        (model(bytes([0x7B])), "a field of the unknown kind 3"),
        (model(b"\xff" * 11), "a number of more than ten bytes"),
        (model(b"\xff"), "it ends in the middle of a number"),
        (model(pair("metadata", "x" * 70_000)), "a text of 70,000 bytes beside its graph, of at most 65,536"),
        (model(of_number(1, 8) * 10_001), "more than 10,000 fields beside its graph"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(data: bytes, problem: str, path: Path):
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        read_onnx_header(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and problem in message and "\n" not in message


@given(st.one_of(st.binary(max_size=300), st.tuples(st.integers(0, 1100), st.binary(max_size=40))))
def test_whatever_its_bytes_are_a_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, drawn: object):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    data = drawn if isinstance(drawn, bytes) else b""
    if isinstance(drawn, tuple):
        at, change = drawn
        whole = model(pair("metadata", "{}"))
        data = whole[:at] + change + whole[at + len(change) :]
    path.write_bytes(data)
    with contextlib.suppress(ModelFileError):
        read_onnx_header(path)
