"""Recorded steps: the same samples as without, recorded where nothing is heard yet, dropped where anything is not as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.converter import Converter
from rvcd.engine.graphs import Graphs, Step, graphs_of
from rvcd.engine.pitch import PitchTracker
from rvcd.engine.precision import choose_precision
from rvcd.engine.voice_stream import Voice
from rvcd.errors import ParamError
from rvcd.geometry import StreamGeometry
from rvcd.nets import packed
from rvcd.worker.warm_up import warm_up
from tests.engine import test_steady_state
from tests.engine.test_steady_state import RATE_HZ, SPEAKING, encoder_of
from tests.support import FakePitch
from tests.tape import TapeRecorder

SMALL: dict[str, Any] = {"n_layers": 1, "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1, 3),)}


@pytest.fixture(autouse=True)
def operators_of_torch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU. Kernels of our own are no operators of torch, hence on no tape."""
    for name in ("available", "fuses"):
        monkeypatch.setattr(packed, name, lambda weight: False)


def voice_of(decoder: str, encoder: str, seed: int = 1) -> Voice:
    made, width = encoder_of(encoder)
    voice = test_steady_state.voice_of(decoder, width, seed=seed, **SMALL)
    return Voice(voice.name, voice.spec, voice.synthesizer, voice.decoder, None, made)


def converter_of(voice: Voice, graphs: Graphs | None, block_ms: int = 60) -> Converter:
    geometry = StreamGeometry.from_ms(rate_hz=RATE_HZ, block_ms=block_ms, lookahead_ms=60, deadline_ms=40, context_ms=200)
    tracker = PitchTracker(FakePitch(), lookahead_frames=geometry.settle_frames)
    converter = Converter(geometry, None, tracker, voice, seed=3, graphs=graphs, snapshot=SPEAKING)
    warm_up(converter)
    return converter


def noise_blocks(converter: Converter, count: int) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(7)
    return [0.1 * random.standard_normal(converter.geometry.block_samples, dtype=np.float32) for _ in range(count)]


def heard(converter: Converter, count: int = 24) -> NDArray[np.float32]:
    return np.concatenate([converter.process(block, SPEAKING).audio for block in noise_blocks(converter, count)])


def recorded(converter: Converter) -> list[bool]:
    (units,) = converter.units._streams.values()
    return [step.recorded for step in (*units._steps.values(), converter.stream.prior_step, converter.stream.decoder_step)]


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [
        ("nsf-hifigan", "hubert"),
        ("mrf", "envelope"),
        ("refinegan", "envelope"),
        ("refinegan 3.2.9", "hubert"),
        ("source-filter", "envelope"),
    ],
)
def test_recorded_steps_make_the_same_samples(decoder: str, encoder: str) -> None:
    voice, recorder, lines = voice_of(decoder, encoder), TapeRecorder(), list[str]()
    expected = heard(converter_of(voice, None))
    converter = converter_of(voice, Graphs(recorder, lines.append))
    assert recorded(converter) == [True] * 3 and lines == []
    before = recorder.replayed
    assert np.abs(heard(converter) - expected).max() < 1e-5
    assert recorder.replayed >= before + 20


def test_a_reset_and_a_pause_keep_what_was_recorded_and_its_samples() -> None:
    voice, recorder = voice_of("nsf-hifigan", "hubert"), TapeRecorder()
    plain, converter = converter_of(voice, None), converter_of(voice, Graphs(recorder))
    silence = np.zeros(converter.geometry.block_samples, np.float32)
    for _ in range(2):
        before = recorder.replayed
        assert np.abs(heard(converter) - heard(plain)).max() < 1e-5
        assert recorder.replayed > before
        for each in (plain, converter):
            each.reset()
    for each in (plain, converter):
        heard(each)
        for _ in range(20):
            each.process(silence, replace(SPEAKING, gate=-50.0))
    assert np.abs(heard(converter) - heard(plain)).max() < 1e-5


def test_nothing_is_recorded_while_something_is_heard() -> None:
    recorder = TapeRecorder()
    converter = converter_of(voice_of("nsf-hifigan", "envelope"), None)
    converter.graphs._recorder = recorder
    heard(converter, 30)
    assert recorder.warmed == 0


def test_another_voice_is_recorded_before_it_is_heard_and_the_old_ones_record_goes() -> None:
    voice, recorder = voice_of("nsf-hifigan", "envelope"), TapeRecorder()
    converter = converter_of(voice, Graphs(recorder))
    other = voice_of("mrf", "envelope", seed=2)
    stream = converter.new_stream(Voice("b", other.spec, other.synthesizer, other.decoder, None, voice.encoder))
    converter.rehearse(stream)
    assert stream.prior_step.recorded and stream.decoder_step.recorded
    heard(converter, 12)
    converter.switch.begin(stream)
    while converter.switch.next_step() is not None:
        converter.switch.prepare()
    before = recorder.replayed
    heard(converter, 12)
    assert converter.stream is stream and recorder.replayed >= before + 15


def test_a_formant_shift_runs_as_it_does_without_records() -> None:
    voice, shifted = voice_of("nsf-hifigan", "envelope"), replace(SPEAKING, formant=2.0)
    found = []
    for graphs in (None, Graphs(TapeRecorder())):
        converter = converter_of(voice, graphs)
        found.append(np.concatenate([converter.process(block, shifted).audio for block in noise_blocks(converter, 12)]))
    assert np.abs(found[0] - found[1]).max() < 1e-5


class Counter:
    """A step with state: adds its input to a sum. wrong: what its replay adds besides. refuses: cannot be recorded."""

    def __init__(self, wrong: float = 0.0, refuses: bool = False) -> None:
        self.sum, self.wrong, self.refuses, self.lines = torch.zeros(2), wrong, refuses, list[str]()
        self.graphs = Graphs(self, self.lines.append)
        self.step = Step("sum", self.graphs, lambda: [self.sum])

    def warm(self, work: Callable[[], Tensor]) -> None:
        work()

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if self.refuses:
            work()
            raise RuntimeError("operation not permitted when stream is capturing")
        result = work()

        def replay() -> None:
            result.copy_(work() + self.wrong)

        return replay, result

    def add(self, x: float, key: object = "key") -> float:
        def work(given: list[Tensor]) -> Tensor:
            self.sum.add_(given[0])
            return self.sum.clone()

        return float(self.step.run(key, [torch.full((2,), x)], work)[0])  # type: ignore[arg-type]


def test_a_step_goes_on_rightly_through_recording() -> None:
    counter = Counter()
    with counter.graphs.rehearsal():
        assert [counter.add(x) for x in (1, 2, 3, 4, 5)] == [1, 3, 6, 10, 15]
    assert counter.step.recorded and counter.lines == []


@pytest.mark.parametrize("counter", [Counter(wrong=1.0), Counter(wrong=float("nan")), Counter(refuses=True)])
def test_a_record_that_fails_or_computes_something_else_is_dropped_with_one_line(counter: Counter) -> None:
    with counter.graphs.rehearsal():
        assert [counter.add(x) for x in (1, 2, 3, 4, 5)] == [1, 3, 6, 10, 15]
    assert not counter.step.recorded and len(counter.lines) == 1
    assert counter.lines[0].startswith("CUDA graphs are not used: sum: ")


def test_another_number_or_another_place_runs_eagerly_and_the_step_after_it_too() -> None:
    counter, runs = Counter(), 0
    with counter.graphs.rehearsal():
        for _ in range(3):
            counter.add(0)
    kept = counter.step._recorded
    assert kept is not None

    def counted() -> None:
        nonlocal runs
        runs += 1

    counter.step._recorded = replace(kept, replay=counted)
    counter.add(1, "other")
    counter.add(1)
    assert runs == 0
    counter.add(1)
    assert runs == 1
    counter.sum = counter.sum.clone()
    counter.add(1)
    counter.add(1)
    assert runs == 1


def test_only_the_thread_that_rehearses_records() -> None:
    import threading

    counter, seen = Counter(), []
    with counter.graphs.rehearsal():
        thread = threading.Thread(target=lambda: seen.append(counter.graphs.recording))
        thread.start()
        thread.join()
        assert counter.graphs.recording and seen == [False]
    assert not counter.graphs.recording


def test_without_a_gpu_nothing_is_recorded_and_another_word_is_refused() -> None:
    assert graphs_of("auto", torch.device("cpu")).recorder is None
    assert graphs_of("off", torch.device("cuda:0")).recorder is None
    with pytest.raises(ParamError, match=r"engine.cuda_graphs = 'on'.*auto, off"):
        graphs_of("on", torch.device("cpu"))


def test_half_precision_of_gpus_is_refused_on_a_processor() -> None:
    with pytest.raises(ParamError, match=r"fp16.*needs a GPU"):
        choose_precision("fp16", "cpu")
    assert choose_precision("fp16", "cuda") is torch.float16
