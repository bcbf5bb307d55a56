"""Samples through pipes: what is written is read again, headers of other programs are understood, broken ones are refused."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from rvcd.config.settings import Settings, parse_config
from rvcd.errors import AudioFileError, ParamError, RvcdError
from rvcd.rendering.file import RenderRequest
from rvcd.rendering.pcm import FORMATS, PcmSink, PcmSource, decoded, encoded, wav_header
from rvcd.rendering.pipe import NO_AUTO, PipeRequest, PipeResult, render_pipe
from tests.support import speech_like

ROOT = Path(__file__).parents[2]
SUBTYPES = {"u8": "PCM_U8", "s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32", "f32": "FLOAT", "f64": "DOUBLE"}


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size, self._at = data, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        piece = self._data[self._at : self._at + min(self._size, len(target))]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def through(data: bytes, size: int = 10**9, **about: Any) -> PcmSource:
    return PcmSource(io.BufferedReader(Trickle(data, size)), **about)


def all_of(source: PcmSource) -> np.ndarray:
    return np.concatenate([*source.frames(), np.zeros((0, source.channels), np.float32)])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [7, 10**9])
def test_a_wav_of_every_sample_format_is_read_as_libsndfile_reads_it(name: str, channels: int, size: int) -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, (700, channels))
    file = io.BytesIO()
    soundfile.write(file, audio, 22050, subtype=SUBTYPES[name], format="WAV")
    source = through(file.getvalue(), size)
    assert (source.rate_hz, source.channels, source.total_samples, source.format.name) == (22050, channels, 700, name)
    file.seek(0)
    np.testing.assert_allclose(all_of(source), soundfile.read(file, dtype="float32", always_2d=True)[0], atol=1e-7)
    assert source.note == ""


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_the_64_bit_header_of_rf64_is_understood(subtype: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.linspace(-0.5, 0.5, 300), 48000, subtype=subtype, format="RF64")
    source = through(file.getvalue())
    assert source.total_samples == 300 and len(all_of(source)) == 300


@pytest.mark.parametrize("size", [0, 2**32 - 1, 2**31 - 4096 * 8])
def test_a_length_that_the_writer_did_not_know_is_until_the_end(size: int) -> None:
    header = wav_header(FORMATS["s16"], 16000, 1)
    source = through(header[:-4] + struct.pack("<I", size) + np.arange(100, dtype="<i2").tobytes())
    assert source.total_samples == 0 and len(all_of(source)) == 100


def test_what_follows_the_samples_is_read_and_not_taken_for_sound() -> None:
    header = wav_header(FORMATS["s16"], 16000, 1)[:-4] + struct.pack("<I", 20)
    stream = io.BytesIO(header + bytes(20) + b"LIST" + bytes(100))
    source = PcmSource(stream)
    assert len(all_of(source)) == 10 and stream.read() == b""


@pytest.mark.parametrize("name", ["s16", "f32"])
@pytest.mark.parametrize("count", [0, 1, 3, 5000])
def test_raw_samples_of_any_number_come_through(name: str, count: int) -> None:
    audio = np.random.default_rng(1).uniform(-1, 1, (count, 2)).astype(np.float32)
    source = through(encoded(audio, FORMATS[name]), 11, raw=name, rate_hz=48000, channels=2)
    np.testing.assert_allclose(all_of(source), audio, atol=2e-5)


def test_half_a_sample_at_the_end_is_noted_and_numbers_that_are_none_are_silence() -> None:
    source = through(bytes(41), raw="s16", rate_hz=16000)
    assert len(all_of(source)) == 20 and "ends with 1 bytes that are no whole sample; is it s16?" in source.note
    odd = np.array([np.nan, np.inf, -np.inf, 0.5], "<f4")
    np.testing.assert_array_equal(decoded(odd.tobytes(), FORMATS["f32"]), [0, 0, 0, 0.5])


def test_a_wav_that_ends_before_its_header_says_is_used_and_noted() -> None:
    header = wav_header(FORMATS["s16"], 16000, 1)[:-4] + struct.pack("<I", 200)
    source = through(header + bytes(100))
    assert len(all_of(source)) == 50 and "ends 100 bytes before its header says" in source.note


@given(st.integers(-(2**23), 2**23 - 1), st.sampled_from(["s16", "s24"]))
def test_integers_come_back_as_they_were(value: int, name: str) -> None:
    format = FORMATS[name]
    value = value >> (24 - format.bits)
    audio = np.array([value / 2 ** (format.bits - 1)], np.float32)
    data = encoded(audio, format)
    assert len(data) == format.sample_bytes
    assert int.from_bytes(data, "little", signed=True) == value
    np.testing.assert_array_equal(decoded(data, format), audio)


def test_what_is_too_loud_for_integers_is_clipped() -> None:
    assert encoded(np.array([2.0, -2.0], np.float32), FORMATS["s16"]) == b"\xff\x7f\x00\x80"


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_bytes_of_any_kind_are_samples_or_one_sentence(after: bytes, before: bytes) -> None:
    for data in (after, b"RIFF\xff\xff\xff\xffWAVE" + after, b"RF64\0\0\0\0WAVE" + before + b"fmt " + after):
        said = "the standard input"
        try:
            source = through(data, 9, raw="s16", rate_hz=16000)
            assert all_of(source).shape[1] == source.channels
        except RvcdError as error:
            said = str(error)
        assert "\n" not in said and said.startswith("the standard input")


def about(*values: int) -> bytes:
    return b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, *values) + b"data\0\0\0\0"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "does not say what the samples are"),
        (b"RIFF\0\0\0\0WAVEfmt ", "ends within its WAV header"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f", "no samples within the first MB"),
        (
            b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 17, 1, 8000, 0, 0, 4) + b"data\0\0\0\0",
            "of format 17 with 4 bits",
        ),
        (about(1, 0, 8000, 0, 0, 16), "says 0 channels"),
        (about(1, 1, 1, 0, 0, 16), "has 1 samples a second"),
    ],
)
def test_headers_that_cannot_be_are_refused(header: bytes, words: str) -> None:
    with pytest.raises(AudioFileError, match=words):
        through(header)


# ---- through the engine


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "render-cache"))
    yield parse_config({"models": {"content_encoder": "test"}}, Path("test.toml"))
    torch.set_flush_denormal(False)


Convert = Callable[..., tuple[PipeResult, bytes]]


@pytest.fixture
def convert(settings: Settings) -> Convert:
    def run(data: bytes, source: str = "-", target: str = "-", **options: Any) -> tuple[PipeResult, bytes]:
        pipe = {name: options.pop(name) for name in ("format", "input_rate_hz") if name in options}
        out = io.BytesIO()
        request = PipeRequest(RenderRequest(Path(source), Path(target), **options), **pipe)
        return render_pipe(settings, request, io.BytesIO(data), lambda: out, lambda done: None), out.getvalue()

    return run


def test_raw_samples_in_are_raw_samples_out_as_many_and_in_place(convert: Convert) -> None:
    audio = np.concatenate((np.zeros(16000, np.float32), speech_like(16000, 1.5)))
    result, out = convert(encoded(audio, FORMATS["f32"]), format="f32", rate_hz=16000)
    made = decoded(out, FORMATS["f32"])
    assert len(made) == len(audio) and result.duration_s == pytest.approx(2.5) and not result.header
    assert np.flatnonzero(np.abs(made) > 0.01)[0] == pytest.approx(16000, abs=1200)
    _, stereo = convert(encoded(np.stack((audio, 0 * audio), axis=1), FORMATS["f32"]), format="f32", rate_hz=16000, channels="2")
    np.testing.assert_array_equal(decoded(stereo, FORMATS["f32"]).reshape(-1, 2), np.stack((made, 0 * made), axis=1))


def test_a_wav_in_is_a_wav_out_and_a_file_is_the_same_as_its_pipe(convert: Convert, tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, speech_like(22050, 1.0), 22050, subtype="PCM_24")
    result, piped = convert(path.read_bytes())
    _, from_file = convert(b"", source=str(path))
    assert piped == from_file and (result.format, result.header, result.rate_hz) == ("s24", True, 40000)
    convert(path.read_bytes(), target=str(tmp_path / "out.wav"))
    made, rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32")
    source = PcmSource(io.BytesIO(piped))
    np.testing.assert_allclose(all_of(source)[:, 0], made, atol=2e-7)
    assert rate_hz == source.rate_hz == 40000 and len(made) == 40000


def test_the_rate_of_raw_input_may_be_another_than_the_outputs(convert: Convert) -> None:
    result, out = convert(bytes(16000), format="s16", rate_hz=16000, input_rate_hz=8000)
    assert len(out) == 32000 and result.duration_s == 1.0


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (b"", {}, "the standard input is empty: say what it is with --format s16 or f32, --rate and --channels"),
        (bytes(100), {"rate_hz": 16000}, "has no WAV header: say what it is"),
        (bytes(100), {"format": "s16"}, "has no WAV header: say what it is"),
        (bytes(100), {"format": "flac", "rate_hz": 16000}, "--format flac: the standard output takes wav, s16, f32"),
        (bytes(100), {"format": "s16", "rate_hz": 16000, "loudness_lufs": -16.0}, "--loudness: is known at the end only"),
        (bytes(100), {"format": "s16", "rate_hz": 16000, "channels": "keep"}, "--channels keep: samples without a header"),
        (bytes(100), {"target": "out.wav", "format": "flac"}, "--format flac: for the standard input it says how raw"),
        (bytes(100), {"target": "out.xyz"}, "unknown extension '.xyz'"),
    ],
)
def test_what_a_pipe_cannot_have_is_said(convert: Convert, data: bytes, options: dict[str, Any], words: str) -> None:
    with pytest.raises((ParamError, AudioFileError), match=words):
        convert(data, **options)


def test_a_configured_auto_pitch_is_passed_over_with_a_note(settings: Settings) -> None:
    auto = parse_config({"models": {"content_encoder": "test"}, "engine": {"pitch_mode": "auto"}}, Path("test.toml"))
    for mode, notes in (("", (NO_AUTO,)), ("manual", ())):
        request = PipeRequest(RenderRequest(Path("-"), Path("-"), rate_hz=16000, pitch_mode=mode), "s16")
        result = render_pipe(auto, request, io.BytesIO(bytes(3200)), io.BytesIO, lambda done: None)
        assert result.notes == notes


def test_samples_leave_while_others_still_come(settings: Settings) -> None:
    """A pipe from a microphone never ends: nothing waits for its end."""
    given, left = 0, []

    class Endless(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            nonlocal given
            given += 1
            return bytes(32000) if given < 40 and not left else b""

    class Noting(io.BytesIO):
        def write(self, data: Any, /) -> int:
            left.append(len(data))
            return len(data)

    request = PipeRequest(RenderRequest(Path("-"), Path("-"), rate_hz=16000), "s16")
    render_pipe(settings, request, Endless(bytes(12)), Noting, lambda done: None)
    assert given < 10, "a block of 1 s was out after a few of them had come in"


def test_a_reader_that_leaves_ends_the_program_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "rvcd.toml").write_text('[models]\ncontent_encoder = "test"\n')
    monkeypatch.setenv("RVCD_CONFIG", str(tmp_path / "rvcd.toml"))
    words = [sys.executable, "-m", "rvcd.cli", "render", "-", "-", "--format", "s16", "--rate", "16000"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as program:
        assert program.stdin is not None and program.stdout is not None and program.stderr is not None
        program.stdin.write(bytes(32000 * 3))
        program.stdin.flush()
        assert len(program.stdout.read(1000)) == 1000
        program.stdout.close()
        try:
            program.stdin.write(bytes(32000 * 60))
            program.stdin.close()
        except BrokenPipeError:
            pass
        said = program.stderr.read()
    assert said == b"" and program.returncode == 1


def test_the_sink_writes_a_header_only_where_it_is_asked_to() -> None:
    with_header, without = io.BytesIO(), io.BytesIO()
    PcmSink(with_header, FORMATS["f32"], 48000, 2, header=True)
    PcmSink(without, FORMATS["f32"], 48000, 2, header=False)
    assert len(with_header.getvalue()) == 44 and without.getvalue() == b""
