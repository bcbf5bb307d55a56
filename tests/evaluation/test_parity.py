from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from rvcd.engine.converter import Converter
from rvcd.engine.loader import Loader
from rvcd.evaluation.offline import convert_offline
from rvcd.evaluation.parity import compare, measure_parity
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.params import Snapshot

DEMO = Path(__file__).parents[2] / "rvcd" / "data" / "demo_speech.flac"
LOOKAHEADS_MS = (40, 60, 80, 100, 160, 300)


@pytest.fixture(scope="module")
def loader(tmp_path_factory) -> Loader:
    cache = tmp_path_factory.mktemp("cache")
    setup = ModelSetup(encoder="", test_weights_cache=str(cache))
    ensure_test_weights(cache)
    return Loader(setup, StreamGeometry(40000, 6, 10, 100, 1600))


def test_the_whole_pipeline_comes_closer_to_offline_the_more_it_may_look_ahead(loader, capsys):
    paths = ensure_test_weights(Path(loader.setup.test_weights_cache))
    voice = loader.voice(VoiceFiles("test", str(paths.voice_v2)), keep_decoder=True)
    method = loader.pitch_method("swift")
    speech, rate_hz = soundfile.read(DEMO, dtype="float32")
    speech = speech[: 5 * rate_hz]
    offline = convert_offline(speech, loader.encoder(), method, voice, Snapshot(index_rate=0.0, protect=0.5))

    def make(lookahead_ms: int) -> Converter:
        loader.geometry = StreamGeometry.from_ms(
            rate_hz=40000, block_ms=100, lookahead_ms=lookahead_ms, deadline_ms=100, context_ms=2200
        )
        return loader.converter(voice, method, Snapshot())

    found = measure_parity(make, soxr.resample(speech, rate_hz, 40000, quality="VHQ"), offline, LOOKAHEADS_MS)
    with capsys.disabled():
        print("\nlookahead ms  SNR dB  spectral distance dB (test weights, 100 ms blocks, 2 s of context)")
        for row in found:
            print(f"{row.lookahead_ms:12d}  {row.snr_db:6.1f}  {row.spectral_db:6.2f}")
    distance = [row.spectral_db for row in found]
    assert distance[-1] < distance[0]
    assert distance[-1] < 3.0


def test_parity_with_offline_is_measured_as_it_says():
    x = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    same = compare(x, x, 0)
    assert same.spectral_db == 0 and same.snr_db > 200
    quieter = compare(x * np.float32(0.9), x, 0)
    assert quieter.snr_db == pytest.approx(20.0, abs=0.1)
    assert quieter.spectral_db == pytest.approx(0.915, abs=0.02)
