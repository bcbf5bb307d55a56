from __future__ import annotations

import numpy as np
import pytest

from rvcd.bench import recompute
from rvcd.bench.recompute import FADE_FRAMES, SEARCH_FRAMES, RecomputeConverter, load_plain, load_recompute
from rvcd.bench.tasks import StreamSetup
from rvcd.engine.pitch import create_pitch_method
from rvcd.engine.voice_stream import Voice
from rvcd.errors import ModelFileError, ParamError
from rvcd.evaluation.offline import convert_offline
from rvcd.evaluation.parity import compare
from rvcd.formats.voice_header import read_voice_spec
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.nets.rmvpe import RMVPE
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.params import Snapshot
from tests.support import PARITY, FakeEncoder, FakePitch, small_voice, speech_like

RATE_HZ = 40000


class ListeningEncoder(FakeEncoder):
    """Notes how much audio it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.heard_samples: list[int] = []

    def units(self, audio_16k, *, unit_width):
        self.heard_samples.append(audio_16k.shape[1])
        return super().units(audio_16k, unit_width=unit_width)


class ListeningPitch(FakePitch):
    def __init__(self, name: str = "fake") -> None:
        super().__init__()
        self.name = name
        self.heard_samples: list[int] = []

    def estimate(self, audio_16k):
        self.heard_samples.append(len(audio_16k))
        return super().estimate(audio_16k)


class CountingIndex:
    """Blends nothing, notes how many units it is asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def blend(self, units, index_rate):
        self.rows.append(len(units))
        return units


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return ensure_test_weights(tmp_path_factory.mktemp("cache"))


def small_converter(**changes) -> RecomputeConverter:
    parts = {"encoder": FakeEncoder(), "pitch": FakePitch(), "synthesizer": small_voice().synthesizer, "index": None}
    parts.update({key: changes.pop(key) for key in list(changes) if key in parts})
    return RecomputeConverter(*parts.values(), **{"rate_hz": RATE_HZ, **changes})


def stream(converter: RecomputeConverter, audio: np.ndarray) -> np.ndarray:
    size = converter.block_samples
    return np.concatenate([converter.process(audio[i : i + size])[0] for i in range(0, len(audio) - size + 1, size)])


def test_every_block_recomputes_the_whole_window():
    encoder, pitch, index = ListeningEncoder(), ListeningPitch(), CountingIndex()
    converter = small_converter(encoder=encoder, pitch=pitch, index=index)
    audio = speech_like(RATE_HZ, 0.5)
    for i in range(2):
        made, timings = converter.process(audio[i * converter.block_samples :][: converter.block_samples])
        assert made.shape == (converter.block_samples,) and made.dtype == np.float32
        assert min(timings.encode_ms, timings.pitch_ms, timings.prior_ms, timings.decode_ms) > 0
        assert timings.total_ms >= timings.encode_ms + timings.synthesis_ms and timings.pitch_own_ms == timings.pitch_ms
    # 2.5 s + 250 ms + 60 ms; the block and 50 ms; the units of what is not context.
    assert encoder.heard_samples == [44960, 44960]
    assert pitch.heard_samples == [4800, 4800]
    assert index.rows == [141 - 125] * 2


def test_the_decoder_makes_the_block_and_what_the_crossfade_needs():
    converter = small_converter()
    made: list[int] = []
    converter.synthesizer.dec.register_forward_pre_hook(lambda _, inputs: made.append(inputs[0].shape[2]))
    converter.process(np.zeros(converter.block_samples, np.float32))
    assert made == [25 + FADE_FRAMES + SEARCH_FRAMES] == [30]


def test_rmvpe_hears_whole_steps_of_its_own():
    pitch = ListeningPitch("rmvpe")
    small_converter(pitch=pitch).process(np.zeros(RATE_HZ // 4, np.float32))
    longer = ListeningPitch("rmvpe")
    small_converter(pitch=longer, block_ms=300).process(np.zeros(RATE_HZ * 3 // 10, np.float32))
    assert pitch.heard_samples == [5120 - 160] and longer.heard_samples == [2 * 5120 - 160]


@pytest.mark.parametrize("rate_hz, block_ms", [(40000, 100.0), (48000, 250.0)])
def test_the_stream_has_no_seams_and_offline_loudness(weights, rate_hz, block_ms):
    models = load_plain(weights.encoder, weights.voice_v2, weights.index_v2)
    pitch = create_pitch_method("swift")
    sizes = {"rate_hz": rate_hz, "block_ms": block_ms, "context_ms": 1000}
    converter = RecomputeConverter(models.encoder, pitch, models.synthesizer, models.index, index_rate=0.5, **sizes)
    seconds = 5.0
    streamed = stream(converter, speech_like(rate_hz, seconds))[converter.delay_samples :]
    voice = Voice.of("buzz", read_voice_spec(weights.voice_v2), models.synthesizer, models.index)
    offline = convert_offline(speech_like(16000, seconds), models.encoder, pitch, voice, Snapshot(index_rate=0.5, protect=0.5))

    size = converter.block_samples
    change = np.square(np.diff(streamed, 2))
    near = np.zeros(len(change), bool)
    for boundary in range(size - converter.delay_samples % size, len(change), size):
        near[max(0, boundary - rate_hz // 1000) : boundary + rate_hz // 1000] = True
    assert change[near].mean() < 1.25 * change[~near].mean()
    if rate_hz == RATE_HZ:
        edge = rate_hz // 2
        count = min(len(streamed), len(offline)) - edge
        assert abs(20 * np.log10(streamed[edge:count].std() / offline[edge:count].std())) < 1.0
        aligned = compare(streamed[edge:count], offline[edge:count], 0).spectral_db
        elsewhere = compare(streamed[edge:count], np.roll(offline, rate_hz // 2)[edge:count], 0).spectral_db
        assert aligned < 0.6 * elsewhere


def test_a_crossfade_finds_the_phase_of_the_last_block():
    converter = small_converter()
    t = np.arange(converter.block_samples + converter.fade_samples + converter.search_samples) / RATE_HZ
    tone = np.sin(2 * np.pi * 200 * t).astype(np.float32)
    first = converter._continue(tone)
    # The next block starts anywhere in the period: only a search makes it go on.
    second = converter._continue(np.roll(tone, 77))
    joined = np.concatenate((first, second))[converter.fade_samples :]
    assert np.abs(np.diff(joined, 2)).max() < 1.05 * np.abs(np.diff(tone, 2)).max() + 1e-4


def test_its_stages_add_up_and_a_reset_forgets():
    audio = speech_like(RATE_HZ, 1.0)
    converter = small_converter(seed=3)
    first = stream(converter, audio)
    converter.reset()
    again = stream(converter, audio)
    assert np.isfinite(first).all() and first.std() > 1e-3
    assert abs(20 * np.log10(again.std() / first.std())) < 0.5


def test_a_voice_without_pitch_is_never_asked_for_it():
    pitch = ListeningPitch()
    converter = small_converter(pitch=pitch, synthesizer=small_voice(has_f0=False).synthesizer)
    assert np.isfinite(converter.process(speech_like(RATE_HZ, 0.25))[0]).all() and not pitch.heard_samples


def test_a_worker_setup_names_the_same_files(weights):
    voice = VoiceFiles("buzz", str(weights.voice_v2), str(weights.index_v2))
    setup = StreamSetup(
        ModelSetup(encoder=str(weights.encoder), precision="bf16"), StreamGeometry(48000, 6, 10, 100, 1920), voice, "yin"
    )
    converter = load_recompute(setup)
    assert (converter.rate_hz, converter.block_ms, converter.pitch.name) == (48000, 250.0, "yin")
    assert {p.dtype for p in converter.encoder.parameters()} == {p.dtype for p in converter.synthesizer.parameters()}
    assert converter.index is not None and np.isfinite(converter.process(speech_like(48000, 0.25))[0]).all()
    with pytest.raises(ModelFileError, match="name a content encoder"):
        load_recompute(StreamSetup(ModelSetup(encoder=""), setup.geometry, voice, "yin"))


def test_a_voice_that_wants_other_units_names_both(weights, tmp_path):
    from tests.support import PARITY

    with pytest.raises(ModelFileError, match=r"v2_40k_f0\.pth: does not go with .*hubert_test.*width 768"):
        load_plain(weights.encoder, PARITY / "v2_40k_f0.pth")


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"rate_hz": 44101}, "44101 Hz cannot be used; it must be a multiple of 100"),
        ({"block_ms": 255.0}, r"block_ms = 255 .* multiple of 10 ms in 50\.\.2000"),
        ({"block_ms": 20.0}, r"block_ms = 20 "),
        ({"context_ms": -10.0}, r"context_ms = -10 .* 0\.\.30000"),
    ],
)
def test_sizes_that_cannot_be_are_refused_in_one_sentence(changes, sentence):
    with pytest.raises(ParamError, match=sentence):
        small_converter(**changes)


def test_a_block_of_another_size_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="a block has 10000 samples"):
        small_converter().process(np.zeros(100, np.float32))


def test_rmvpe_is_computed_by_plain_modules_as_the_rest_is():
    method = recompute._plain_pitch_method("rmvpe", PARITY / "rmvpe_tiny.pt", "cpu")
    assert isinstance(method._network.salience, RMVPE)
    assert recompute._plain_pitch_method("yin", None, "cpu").name == "yin"
    with pytest.raises(ModelFileError, match="rmvpe needs its weights"):
        recompute._plain_pitch_method("rmvpe", None, "cpu")
