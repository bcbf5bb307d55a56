"""The door for programs: what arrays and streams become, and that the page on it is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from rvcd import Engine, RvcdError
from rvcd.rendering.file import RenderRequest, render_file
from tests.support import speech_like

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("api") / "rvcd.toml"
    path.write_text('[models]\ncontent_encoder = "test"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "render-cache"))
        yield path


@pytest.fixture(scope="module")
def engine(config: Path) -> Engine:
    return Engine(config=config)


def test_an_array_becomes_what_render_makes_of_the_same_file(engine: Engine, config: Path, tmp_path: Path) -> None:
    from rvcd.config.settings import load_config

    audio = speech_like(16000, 1.5)
    soundfile.write(tmp_path / "in.wav", audio, 16000, subtype="FLOAT")
    request = RenderRequest(tmp_path / "in.wav", tmp_path / "out.wav", rate_hz=16000, params={"pitch": 5.0})
    threads = torch.get_num_threads()
    render_file(load_config(config), request, lambda done: None)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    made = engine.convert(audio, 16000, params={"pitch": 5.0})
    assert made.dtype == np.float32 and made.shape == audio.shape
    np.testing.assert_allclose(made, soundfile.read(tmp_path / "out.wav", dtype="float32")[0], atol=1e-6)


def test_integers_and_channels_and_rates_are_taken_as_they_come(engine: Engine) -> None:
    audio = speech_like(16000, 0.8)
    plain = engine.convert(audio, 16000)
    whole = engine.convert(np.round(audio * 2**31).astype(np.int64).clip(-(2**31), 2**31 - 1).astype(np.int32), 16000)
    np.testing.assert_allclose(whole, plain, atol=1e-4)
    both = engine.convert(np.stack((audio, np.zeros_like(audio)), axis=1), 16000)
    np.testing.assert_array_equal(both[:, 0], plain)
    assert not both[:, 1].any()
    assert len(engine.convert(audio, 22050)) == pytest.approx(len(audio) * engine.rate_hz / 22050, abs=1)
    assert len(engine.convert(audio, 16000, output_rate_hz=48000)) == 3 * len(audio)
    assert engine.convert(np.zeros(0), 16000).shape == (0,) and engine.convert(np.zeros((0, 2)), 16000).shape == (0, 2)
    odd = np.full(16000, np.nan)
    assert np.isfinite(engine.convert(odd, 16000)).all()


def test_a_stream_is_the_same_whatever_the_pieces_and_is_where_its_delay_says(engine: Engine) -> None:
    audio = np.concatenate((np.zeros(16000, np.float32), speech_like(16000, 1.0)))
    stream = engine.stream(16000, block_ms=100, lookahead_ms=100)
    size = stream.block_samples
    assert (size, stream.latency_ms) == (1600, pytest.approx(216.0)) and stream.delay_samples == 1856
    padded = np.pad(audio, (0, -len(audio) % size))
    blocks = np.concatenate([stream.process(padded[i : i + size]) for i in range(0, len(padded), size)])
    stream.reset()
    fed = np.concatenate([*(stream.feed(piece) for piece in np.array_split(audio, 13)), stream.finish()])
    assert len(fed) == len(audio) + stream.delay_samples
    np.testing.assert_allclose(fed[: len(blocks)], blocks[: len(fed)], atol=1e-5)
    aligned = np.concatenate(list(stream.convert(np.array_split(audio, 5))))
    np.testing.assert_allclose(aligned, fed[stream.delay_samples :], atol=1e-5)
    assert len(aligned) == len(audio)
    assert np.flatnonzero(np.abs(aligned) > 0.01)[0] == pytest.approx(16000, abs=1200)


def test_parameters_are_limited_kept_by_reset_and_each_streams_own(engine: Engine) -> None:
    one, other = engine.stream(16000), engine.stream(16000, params={"pitch": 2.0})
    assert one.set("pitch", 99) == 24.0 and one.params["pitch"] == 24.0
    assert (
        one.set("autotune_key", "Bb") == 10.0
        and engine.stream(16000, params={"autotune_scale": "minor"}).set("autotune", 2) == 1.0
    )
    one.reset()
    assert (one.params["pitch"], other.params["pitch"], engine.params["pitch"]) == (24.0, 2.0, 0.0)
    assert {param.name for param in engine.parameters()} == set(engine.params)
    assert engine.voice and engine.device == "cpu" and engine.notes == () and one.rate_hz == 16000


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e: e.convert(np.zeros((10, 9)), 16000), r"shape \(10, 9\) cannot be converted"),
        (lambda e: e.stream(params={"autotune_key": "H"}), r"autotune_key takes one of C, C#, D"),
        (lambda e: e.convert(np.float32(0), 16000), r"shape \(\) cannot be"),
        (lambda e: e.convert(np.zeros(10, np.complex64), 16000), "type complex64"),
        (lambda e: e.convert(np.zeros(10, np.uint8), 16000), "type uint8"),
        (lambda e: e.convert(np.zeros(10), 100), "rate_hz = 100 is out of range; it takes 8000..384000"),
        (lambda e: e.convert(np.zeros(10), 16000, output_rate_hz=1), "sample rate 1 Hz cannot be used"),
        (lambda e: e.convert(np.zeros(10), 16000, params={"pich": 1}), "unknown parameter 'pich'"),
        (lambda e: e.stream(44101), "sample rate 44101 Hz cannot be used"),
        (lambda e: e.stream(block_ms=30), "block_ms = 30 is out of range; it takes a multiple of 20"),
        (lambda e: e.stream(16000).process(np.zeros(3)), r"a block has 2240 samples of one channel, not \(3,\)"),
        (lambda e: e.stream(16000).feed(np.zeros((3, 2))), "a stream has one channel, not 2"),
        (lambda e: e.stream(16000).set("pitch", float("nan")), "pitch must be a finite number"),
        (lambda e: Engine("nobody", config=ROOT / "none.toml"), "none.toml"),
        (lambda engine: engine.stream(params={"monitor": 0.0}), "monitor is no parameter of a voice"),
    ],
)
def test_what_cannot_be_is_one_sentence(engine: Engine, call: Any, words: str) -> None:
    with pytest.raises(RvcdError, match=words) as caught:
        call(engine)
    assert "\n" not in str(caught.value)


def test_the_process_is_left_as_it_was(config: Path) -> None:
    before = torch.get_num_threads(), torch.tensor([1e-40]).mul(0.5).item()
    Engine(config=config).convert(speech_like(16000, 0.2), 16000)
    assert (torch.get_num_threads(), torch.tensor([1e-40]).mul(0.5).item()) == before


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, rvcd; print([n for n in sys.modules if n.split('.')[0] in ('rvcd', 'numpy', 'torch')], dir(rvcd)[:1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "['rvcd'] ['Engine']\n"
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        __import__("rvcd").Motor  # noqa: B018


def test_the_examples_of_the_page_run(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RVCD_CONFIG", str(config))
    soundfile.write("speech.wav", speech_like(16000, 1.0), 16000)
    page = (ROOT / "docs/api.md").read_text("utf-8")
    examples = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, "docs/api.md", "exec"), names)
    said = capsys.readouterr().out
    assert len(examples) == 6 and "unknown voice 'nobody'" in said
    (figures,) = re.findall(r"stream\.latency_ms\) +# (.+)", page)
    assert figures in said and soundfile.info("converted.wav").frames == 16000


def test_a_stream_has_a_denoiser_where_it_is_asked_for(engine: Engine) -> None:
    plain, asked, begun = engine.stream(), engine.stream(denoiser=True), engine.stream(params={"denoise": 0.5})
    assert asked.delay_samples == begun.delay_samples > plain.delay_samples
    assert asked.set("denoise", 1.0) == 1.0 and begun.params["denoise"] == 0.5
    assert plain.set("denoise", 0.0) == 0.0
    with pytest.raises(RvcdError, match="denoiser=True"):
        plain.set("denoise", 1.0)
    audio = np.zeros(asked.block_samples, np.float32)
    assert not asked.process(audio).any()
