"""Loading lets the audio loop go first often, and never while it holds a lock that the loop's thread may want."""

from __future__ import annotations

import _imp
import concurrent.futures.thread
import importlib
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from rvcd.engine.converter import Converter
from rvcd.engine.decoder_layers import DecoderLayers
from rvcd.engine.loader import Loader
from rvcd.engine.retrieval import READ_BYTES, read_index
from rvcd.engine.side_thread import SideThread
from rvcd.errors import MissingExtraError
from rvcd.formats.checkpoint import load_tensors
from rvcd.formats.index_header import read_index_header
from rvcd.formats.voice_config import FLOW_COUPLINGS
from rvcd.formats.voice_file import read_voice
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.packed import pack
from rvcd.nets.rmvpe import RMVPE, ResidualBlock, load_rmvpe
from rvcd.nets.synthesizer import build_synthesizer
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.params import Snapshot
from rvcd.protocol import F0_METHODS
from rvcd.voices.test_weight_paths import TestWeightPaths
from rvcd.yielding import is_yielding, yield_point, yielding
from tests.support import PARITY

GEOMETRY = StreamGeometry(48000, 6, 10, 100, 1920)
OPEN_GATE = Snapshot(gate=-90.0, index_rate=0.5)
TRANSIENT_S = 10.0
"""Another test's thread may hold a lock for a moment; a lock that the loading thread holds is never released meanwhile."""


class LockWatch:
    """At each yield point another thread takes every lock that the audio loop's thread may want. held: those it could not."""

    def __init__(self) -> None:
        self.points = 0
        self.held: set[str] = set()
        self._other = SideThread("audio loop")
        self._other.begin(lambda: None)  # now: starting a thread takes a lock
        self._other.wait()

    def check(self) -> None:
        self.points += 1
        if not self.held:  # one is enough, and waiting for it takes its time
            self._other.begin(self._take_all)
            self._other.wait()

    def _take_all(self) -> None:
        for name, lock in self._locks():
            if lock.acquire(timeout=TRANSIENT_S):
                lock.release()
            else:
                self.held.add(name)
        if _imp.lock_held():
            self.held.add("import")
        for name, reference in list(importlib._bootstrap._module_locks.items()):  # type: ignore[attr-defined]
            lock = reference()
            if lock is not None and lock.owner:
                self.held.add(f"import of {name}")

    @staticmethod
    def _locks() -> Iterator[tuple[str, threading.Lock]]:
        yield "concurrent.futures", concurrent.futures.thread._global_shutdown_lock
        yield "logging", logging._lock  # type: ignore[attr-defined]
        for handler in logging.getLogger().handlers:
            if handler.lock is not None:
                yield f"handler {handler}", handler.lock
        yield "threads", threading._active_limbo_lock  # type: ignore[attr-defined]
        for name, value in vars(Loader).items():
            if hasattr(value, "lock"):  # a cached_property of Python 3.11 and before
                yield f"Loader.{name}", value.lock


def points_of(work: Callable[[], object]) -> int:
    """Return how many yield points some work passes."""
    points = 0

    def count() -> None:
        nonlocal points
        points += 1

    with yielding(count):
        work()
    return points


def modules_of(network: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in network.modules())


def warm(converter: Converter, blocks: int = 4) -> None:
    noise = np.random.default_rng(0).standard_normal(converter.geometry.block_samples).astype(np.float32)
    for _ in range(blocks):
        converter.process(0.1 * noise, converter.applied)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> TestWeightPaths:
    return ensure_test_weights(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def setup(paths) -> ModelSetup:
    return ModelSetup(encoder=str(paths.encoder), rmvpe=str(PARITY / "rmvpe_tiny.pt"))


def request(paths: TestWeightPaths) -> VoiceFiles:
    return VoiceFiles("buzz", str(paths.voice_v2), str(paths.index_v2))


def test_a_thread_that_yields_to_nobody_passes_a_yield_point() -> None:
    yield_point()
    assert not is_yielding()


def test_only_the_thread_that_asked_to_yields_and_only_within_the_block() -> None:
    elsewhere: list[bool] = []
    with yielding(lambda: None):
        assert is_yielding()
        thread = threading.Thread(target=lambda: elsewhere.append(is_yielding()))
        thread.start()
        thread.join()
        assert points_of(yield_point) == 1, "the inner of two counts"
        assert is_yielding()
    assert elsewhere == [False] and not is_yielding()


def test_the_watch_notices_a_lock_that_is_held(monkeypatch) -> None:
    monkeypatch.setattr("tests.engine.test_yield_points.TRANSIENT_S", 0.01)
    for name, lock in LockWatch._locks():
        watch = LockWatch()
        with lock, yielding(watch.check):
            yield_point()
        assert name in watch.held
    free = LockWatch()
    with yielding(free.check):
        yield_point()
    assert not free.held and free.points == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_lock_is_held_at_any_yield_point_of_a_whole_load(setup, paths, precision) -> None:
    watch, loader = LockWatch(), Loader(replace(setup, precision=precision), GEOMETRY)
    with yielding(watch.check):
        loader.encoder()
        voice = loader.voice(request(paths))
        for name in F0_METHODS:
            try:
                method = loader.pitch_method(name)
            except MissingExtraError:
                continue
            method.estimate(np.zeros(method.context_frames * 160, np.float32))
            converter = loader.converter(voice, method, OPEN_GATE)
            warm(converter)
            converter.reset()
        converter.new_stream(voice)
    assert not watch.held
    assert watch.points > 1000


def test_once_the_packages_are_imported_choosing_a_pitch_method_imports_nothing() -> None:
    script = """
import contextlib, pathlib, sys
from rvcd.engine.pitch import create_pitch_method, import_packages
from rvcd.errors import MissingExtraError
from rvcd.protocol import F0_METHODS
import_packages()
before = set(sys.modules)
for name in F0_METHODS:
    with contextlib.suppress(MissingExtraError):
        create_pitch_method(name, model_path=pathlib.Path(sys.argv[1]))
# torch imports two small modules of its own when the first file is read, which is a voice's, before there is audio.
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("torch.utils.")))
"""
    command = [sys.executable, "-c", script, str(PARITY / "rmvpe_tiny.pt")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_load_gives_the_same_voice_whether_it_yields_or_not(setup, paths, precision) -> None:
    heard = []
    for wait in (None, lambda: None):
        loader = Loader(replace(setup, precision=precision), GEOMETRY)
        with yielding(wait):
            converter = loader.converter(loader.voice(request(paths)), loader.pitch_method("yin"), OPEN_GATE)
            warm(converter)
            noise = np.random.default_rng(1).standard_normal(GEOMETRY.block_samples).astype(np.float32)
            heard.append(converter.process(0.1 * noise, OPEN_GATE).audio)
    assert np.array_equal(*heard) and np.abs(heard[0]).max() > 1e-3


def test_reading_a_voice_yields_for_each_tensor_that_is_read_and_for_each_that_is_checked(paths) -> None:
    tensors = len(read_voice(paths.voice_v2).weights)
    assert points_of(lambda: read_voice(paths.voice_v2)) >= 2 * tensors


def test_building_a_voice_yields_for_each_weight_and_each_layer(paths) -> None:
    file = read_voice(paths.voice_v2)
    voice = build_synthesizer(file.spec.config, file.weights)
    assert points_of(lambda: build_synthesizer(file.spec.config, file.weights)) >= len(voice.state_dict())
    convolutions = modules_of(voice.dec, nn.Conv1d, nn.ConvTranspose1d) - len(voice.dec.noise_convs) - 1
    for dtype in (torch.float32, torch.bfloat16):
        assert points_of(lambda dtype=dtype: DecoderLayers.of(voice.dec, dtype)) >= convolutions
    layers = modules_of(voice.enc_p, nn.Linear, nn.Conv1d)
    assert points_of(lambda: pack(voice.enc_p, torch.bfloat16)) >= layers


def test_reading_an_index_yields_for_each_megabyte_and_for_each_list(paths) -> None:
    header, width = read_index_header(paths.index_v2), 64
    size_bytes = paths.index_v2.stat().st_size
    assert header.width == width
    assert points_of(lambda: read_index(paths.index_v2, width)) >= header.lists + size_bytes // READ_BYTES


@pytest.mark.parametrize("which", ["test weights", "fairseq"])
def test_a_content_encoder_yields_for_each_tensor_and_each_layer(paths, which) -> None:
    path = {"test weights": paths.encoder, "fairseq": PARITY / "hubert_tiny_fairseq.pt"}[which]
    encoder = load_content_encoder(path)
    assert points_of(lambda: load_content_encoder(path)) >= 2 * len(encoder.state_dict())
    audio = torch.zeros(1, 16000)
    assert points_of(lambda: encoder.units(audio, unit_width=encoder.sizes.width)) >= len(encoder.layers)
    linears = 2 * len(encoder.layers)
    assert points_of(lambda: encoder.pack(torch.bfloat16)) >= linears


@pytest.mark.parametrize("plain", [False, True])
def test_rmvpe_yields_for_each_tensor_and_each_convolution(plain: bool) -> None:
    path = PARITY / "rmvpe_tiny.pt"
    tensors, network = len(load_tensors(path)), load_rmvpe(path, plain=plain)
    modules = load_rmvpe(path, plain=True).salience
    assert isinstance(modules, RMVPE)
    assert points_of(lambda: load_rmvpe(path, plain=plain)) >= 2 * tensors
    assert points_of(lambda: network.f0(np.zeros(16000, np.float32))) >= 2 * modules_of(modules, ResidualBlock)


def test_a_block_of_a_fresh_converter_yields_in_every_layer_and_does_all_of_it_in_the_thread_that_yields(setup, paths) -> None:
    loader = Loader(setup, GEOMETRY)
    voice, method = loader.voice(request(paths), keep_decoder=True), loader.pitch_method("yin")
    converter, estimated_on = loader.converter(voice, method, OPEN_GATE), set()
    converter._cores = 1000  # with a core to spare, the audio loop's thread has the pitch estimated beside it
    estimate = method.estimate

    def estimate_and_tell(audio_16k: np.ndarray) -> object:
        estimated_on.add(threading.current_thread())
        return estimate(audio_16k)

    method.estimate = estimate_and_tell  # type: ignore[method-assign]
    warm(converter)
    assert estimated_on and threading.current_thread() not in estimated_on
    estimated_on.clear()
    synthesizer = voice.synthesizer
    layers = (
        len(loader.encoder().layers)
        + len(synthesizer.enc_p.encoder.attn_layers)
        + FLOW_COUPLINGS
        + sum(2 * len(pairs) for stage in voice.decoder.stages for pairs in stage)
        + len(voice.decoder.ups)
    )
    assert points_of(lambda: warm(converter, 1)) >= layers
    assert estimated_on == {threading.current_thread()}
