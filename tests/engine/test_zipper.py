"""A fader that moves across its whole range is heard as a movement, not as a row of clicks (zipper noise).

Measured on a tone: the amplitude spectrum of every 4096 samples (a four-term Blackman-Harris window, side lobes below -92 dB,
main lobe 47 Hz to either side at 48 kHz), the loudest over all positions. A full-scale sine reads 0 dBFS.

The *modulated band* is what the movement itself needs, everything beyond it was added by us:
- the tone +-100 Hz for gains and rms_mix: a fader with 100 values a second asks for 50 Hz, a ramp with corners of 20 ms for 100;
- the tone +-2 / T for a fade of T seconds (gate 10 ms: 200 Hz; mute 5 ms, and the crossfade of bypass with it: 400 Hz);
- the swept band +-300 Hz for the pitch, whose steps of 10 ms (a frame's f0 is constant, as in training) are a modulation too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine import voice_stream
from rvcd.engine.converter import Converter
from rvcd.engine.decoder import StreamingDecoder
from rvcd.engine.dsp.loudness import GainRamp, Gate, Limiter, RmsMix
from rvcd.engine.pitch import PitchTracker
from rvcd.engine.retrieval import read_index
from rvcd.engine.units import ContentEncoder
from rvcd.engine.voice_stream import Voice
from rvcd.formats.voice_file import read_voice
from rvcd.geometry import StreamGeometry
from rvcd.ipc.segment import AudioSegment
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.excitation import Excitation
from rvcd.nets.synthesizer import build_synthesizer
from rvcd.params import BY_NAME, Snapshot
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER, BUILT_IN_FOLDER, BUILT_IN_VOICE
from tests.audio.conftest import HandDriven
from tests.support import FakeEncoder, FakePitch, small_voice

FloatArray = NDArray[np.float32]
Movement = Callable[[float], float]
"""From seconds to where the fader is, 0..1 of its range."""

RATE_HZ = 48000
FRAME_SAMPLES = 4096
AUDIBLE_DBFS = -60.0
LOUD = 10 ** (-6 / 20)
FADER_BAND_HZ, GATE_BAND_HZ, SWITCH_BAND_HZ, PITCH_BAND_HZ = 100.0, 200.0, 400.0, 300.0
BLOCKS_MS = (20, 40, 140, 200)


# ---- the measure


def spectrum(audio: FloatArray) -> NDArray[np.float64]:
    """Return the loudest amplitude at each frequency, (FRAME_SAMPLES // 2 + 1,)."""
    turns = 2 * np.pi * np.arange(FRAME_SAMPLES) / FRAME_SAMPLES
    window = 0.35875 - 0.48829 * np.cos(turns) + 0.14128 * np.cos(2 * turns) - 0.01168 * np.cos(3 * turns)
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), FRAME_SAMPLES)[:: FRAME_SAMPLES // 8]
    return np.asarray(np.abs(np.fft.rfft(frames * window, axis=1)).max(axis=0) * 2 / window.sum())


def loudest_outside(audio: FloatArray, low_hz: float, high_hz: float, rate_hz: int = RATE_HZ) -> float:
    """Return the loudest component below low_hz or above high_hz, in dBFS."""
    at_hz = np.arange(FRAME_SAMPLES // 2 + 1) * rate_hz / FRAME_SAMPLES
    beyond = (at_hz < low_hz) | (at_hz > high_hz)
    return float(20 * np.log10(spectrum(audio)[beyond].max() + 1e-12))


def around(audio: FloatArray, tone_hz: float, band_hz: float, rate_hz: int = RATE_HZ) -> float:
    """Return the loudest component further than band_hz from the tone, in dBFS."""
    return loudest_outside(audio, tone_hz - band_hz, tone_hz + band_hz, rate_hz)


def tone(f_hz: float, level: float, seconds: float, rate_hz: int = RATE_HZ) -> FloatArray:
    # A cosine: a block that begins on a zero crossing would hide a step.
    return (level * np.cos(2 * np.pi * f_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def sweep(seconds: float, *, downwards: bool = False) -> Movement:
    """A hand that moves the fader from end to end, starting at 0.5 s; the fader sends 100 values a second."""

    def position(at_s: float) -> float:
        reached = min(max(round((at_s - 0.5) * 100) / round(seconds * 100), 0.0), 1.0)
        return 1.0 - reached if downwards else reached

    return position


def jump(*, downwards: bool = False) -> Movement:
    """A click on the other end of the range, at 1 s."""
    return lambda at_s: float((at_s >= 1.0) != downwards)


MOVEMENTS = {
    "up in 2 s": sweep(2.0), "up in 1 s": sweep(1.0), "down in 1 s": sweep(1.0, downwards=True),
    "a flick of 0.2 s": sweep(0.2), "a jump up": jump(), "a jump down": jump(downwards=True),
}  # fmt: skip
MOVED = pytest.mark.parametrize("movement", MOVEMENTS.values(), ids=MOVEMENTS)


def in_blocks(block_ms: int, samples: int, process: Callable[[slice, float], FloatArray], rate_hz: int = RATE_HZ) -> FloatArray:
    """Call process with each block's slice and the time at which it starts; join the answers."""
    size = rate_hz * block_ms // 1000
    return np.concatenate([process(slice(i, i + size), i / rate_hz) for i in range(0, samples - size + 1, size)])


def in_range(name: str, position: float) -> float:
    return BY_NAME[name].from_normalised(position)


def test_the_measure_reads_0_dbfs_for_a_full_scale_tone_and_nothing_beside_it() -> None:
    audio = tone(64 * RATE_HZ / FRAME_SAMPLES, 1.0, 1.0)
    assert 20 * np.log10(spectrum(audio).max()) == pytest.approx(0.0, abs=0.01)
    assert around(tone(997.0, 1.0, 1.0), 997.0, 50.0) < -90


@MOVED
@pytest.mark.parametrize("block_ms", BLOCKS_MS)
def test_the_measure_hears_a_gain_that_steps_once_a_block(block_ms: int, movement: Movement) -> None:
    audio = tone(997.0, LOUD / 10 ** (24 / 20), 3.0)

    def stepped(part: slice, at_s: float) -> FloatArray:
        return audio[part] * np.float32(10 ** (in_range("gain_out", movement(at_s)) / 20))

    assert around(in_blocks(block_ms, len(audio), stepped), 997.0, FADER_BAND_HZ) > AUDIBLE_DBFS + 8


# ---- the parts that change levels


@MOVED
@pytest.mark.parametrize("block_ms", BLOCKS_MS)
@pytest.mark.parametrize("f_hz", [440.0, 997.0])
def test_a_gain_fader_adds_nothing_beside_the_tone(f_hz: float, block_ms: int, movement: Movement) -> None:
    audio, ramp = tone(f_hz, LOUD / 10 ** (24 / 20), 3.0), GainRamp(RATE_HZ)
    out = in_blocks(block_ms, len(audio), lambda part, at_s: ramp.process(audio[part], in_range("gain_out", movement(at_s))))
    assert np.abs(out).max() == pytest.approx(LOUD, rel=0.01)  # the whole range was swept
    assert around(out, f_hz, FADER_BAND_HZ) < AUDIBLE_DBFS


@MOVED
@pytest.mark.parametrize("block_ms", BLOCKS_MS)
@pytest.mark.parametrize("dry_db", [-40.0, -20.0, 20.0])
def test_the_rms_mix_fader_adds_nothing_beside_the_tone(dry_db: float, block_ms: int, movement: Movement) -> None:
    """dry_db: how loud the input is against the generator's tone; the louder of the two is at -6 dBFS."""
    wet = tone(440.0, LOUD / 10 ** (max(dry_db, 0.0) / 20), 3.0)
    dry = tone(110.0, LOUD / 10 ** (max(-dry_db, 0.0) / 20), 3.0)
    mix = RmsMix(RATE_HZ)
    out = in_blocks(block_ms, len(wet), lambda part, at_s: mix.process(dry[part], wet[part], movement(at_s)))[RATE_HZ // 5 :]
    assert np.abs(out).max() == pytest.approx(LOUD, rel=0.05)
    assert around(out, 440.0, FADER_BAND_HZ) < AUDIBLE_DBFS


@pytest.mark.parametrize("movement", [sweep(1.0), sweep(1.0, downwards=True), jump(), jump(downwards=True)])
@pytest.mark.parametrize("block_ms", BLOCKS_MS)
def test_the_gate_opens_and_closes_on_a_steady_tone_without_a_click(block_ms: int, movement: Movement) -> None:
    # A level between two of the fader's steps: on one of them, the tone's own ripple opens and closes the gate.
    audio, gate = tone(997.0, 0.95 * LOUD, 3.0), Gate(RATE_HZ)
    out = in_blocks(block_ms, len(audio), lambda part, at_s: gate.process(audio[part], in_range("gate", movement(at_s))))
    audible = np.abs(out.reshape(-1, RATE_HZ // 100)).max(axis=1) > 0
    assert 0 < audible.mean() < 1
    assert around(out[RATE_HZ // 5 :], 997.0, GATE_BAND_HZ) < AUDIBLE_DBFS


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("block_ms", [20, 140])
def test_a_gain_swept_into_the_limiter_adds_nothing_between_the_limiters_own_harmonics(block_ms: int, downwards: bool) -> None:
    audio, ramp, limiter = tone(440.0, LOUD, 3.0), GainRamp(RATE_HZ), Limiter(RATE_HZ)
    movement = sweep(1.0, downwards=downwards)

    def process(part: slice, at_s: float) -> FloatArray:
        return limiter.process(ramp.process(audio[part], in_range("gain_out", movement(at_s))))

    out = in_blocks(block_ms, len(audio), process)[RATE_HZ // 5 :]
    assert 0.95 < np.abs(out).max() <= 1.0
    at_hz = np.arange(FRAME_SAMPLES // 2 + 1) * RATE_HZ / FRAME_SAMPLES
    between = np.abs(at_hz - 440.0 * np.maximum(np.round(at_hz / 440.0), 1)) > FADER_BAND_HZ
    assert 20 * np.log10(spectrum(out)[between].max()) < AUDIBLE_DBFS


# ---- the callback


def switched(switch: Callable[[AudioSegment, bool], None], converted: FloatArray, spoken: FloatArray, period: int) -> FloatArray:
    """Play converted, speak spoken, and throw the switch on after 0.5 s and off after 1 s."""
    with AudioSegment.create(RATE_HZ) as segment:
        device = HandDriven(segment)
        try:
            played = []
            for at in range(0, len(converted) - period + 1, period):
                segment.write_output(at, converted[at : at + period])
                switch(segment, RATE_HZ // 2 <= at < RATE_HZ)
                played.append(device.process(spoken[at : at + period]))
        finally:
            device.close()
    return np.concatenate(played)[RATE_HZ // 20 :]  # without the fade-in of the first samples


@pytest.mark.parametrize("period", [64, 256, 1024])
@pytest.mark.parametrize("f_hz", [440.0, 997.0])
def test_mute_adds_nothing_beside_the_tone(f_hz: float, period: int) -> None:
    heard = tone(f_hz, LOUD, 1.5)
    out = switched(AudioSegment.set_mute, heard, np.zeros_like(heard), period)
    assert not out[round(0.6 * RATE_HZ) : round(0.9 * RATE_HZ)].any()
    assert around(out, f_hz, SWITCH_BAND_HZ) < AUDIBLE_DBFS


@pytest.mark.parametrize("period", [64, 256, 1024])
@pytest.mark.parametrize("f_hz", [440.0, 997.0])
@pytest.mark.parametrize("heard", ["converted", "spoken"])
def test_bypass_adds_nothing_beside_either_tone(heard: str, f_hz: float, period: int) -> None:
    sound = tone(f_hz, LOUD, 1.5)
    silence = np.zeros_like(sound)
    parts = (sound, silence) if heard == "converted" else (silence, sound)
    out = switched(AudioSegment.set_bypass, *parts, period)
    assert np.abs(out).max() == pytest.approx(LOUD, rel=0.01)
    assert around(out, f_hz, SWITCH_BAND_HZ) < AUDIBLE_DBFS


# ---- the whole converter, with a decoder that plays its excitation: what the faders do to a tone all the way through

VOICE_RATE_HZ = 40000
F0_HZ = 330.0
EXCITATION = 0.1
"""The level of the sine that the generator is given: -20 dBFS."""
FADERS = Snapshot(gate=-90.0, rms_mix=1.0, index_rate=0.0, protect=0.5)


class PlaysItsExcitation(StreamingDecoder):
    """As late as the real one, without its networks."""

    def reset(self, first_frame: int = 0) -> None:
        super().reset(first_frame)
        self.held = torch.zeros(self.tail_samples)

    def run(self, z: Tensor, source: Tensor | None, frames: int, noise: list[Tensor], *, end_frame: int | None = None) -> Tensor:
        assert source is not None
        new = frames * self.hop
        joined = torch.cat((self.held, source.reshape(-1)[:new]))
        self.held = joined[new:]
        return joined[:new]


class Scaled(Excitation):
    """Instead of the learned merge, whose tanh has harmonics of its own."""

    def __init__(self, factor: float) -> None:
        super().__init__(1, VOICE_RATE_HZ // 100, VOICE_RATE_HZ)
        self.factor = factor

    def forward(self, sines: Tensor) -> Tensor:
        return self.factor * sines[:, 0]


@pytest.fixture
def a_clean_tone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let voices play their excitation, without the breath noise that would cover what is measured."""

    def zeros(seed: int, first: int, frames: int, width: int, stream: int = 0) -> FloatArray:
        return np.zeros((frames, width), np.float32)

    monkeypatch.setattr(voice_stream, "frame_noise", zeros)
    monkeypatch.setattr(voice_stream, "StreamingDecoder", PlaysItsExcitation)


def converted(name: str, block_ms: int, *, faders: Snapshot = FADERS, level: float, spoken: float) -> FloatArray:
    """Return what comes out while a fader goes from end to end in 0.8 s, rests there for 0.3 s, and comes back.

    level: of the generator's tone. spoken: of the input's. Both before all gains.
    """
    geometry = StreamGeometry.from_ms(
        rate_hz=VOICE_RATE_HZ, block_ms=block_ms, lookahead_ms=100, deadline_ms=block_ms, context_ms=500
    )
    voice = small_voice(n_layers=0)
    voice = replace(voice, decoder=replace(voice.decoder, source=Scaled(level / EXCITATION)))
    tracker = PitchTracker(FakePitch(F0_HZ), lookahead_frames=geometry.settle_frames)
    there, back = sweep(0.8), sweep(0.8, downwards=True)

    def at(now_s: float) -> Snapshot:
        position = there(now_s) if now_s < 1.6 else back(now_s - 1.1)
        return replace(faders, **{name: in_range(name, position)})

    converter = Converter(geometry, FakeEncoder(), tracker, voice, snapshot=at(0.0))
    audio = tone(110.0, spoken, 2.8, VOICE_RATE_HZ)
    out = in_blocks(block_ms, len(audio), lambda part, at_s: converter.process(audio[part], at(at_s)).audio, VOICE_RATE_HZ)
    return out[round(0.4 * VOICE_RATE_HZ) :]  # when the voice has begun


@pytest.mark.usefixtures("a_clean_tone")
@pytest.mark.parametrize("block_ms", [40, 140])
def test_a_pitch_fader_adds_nothing_beside_the_band_it_sweeps(block_ms: int) -> None:
    out = converted("pitch", block_ms, level=EXCITATION, spoken=0.1)
    swept = spectrum(out)[[round(f_hz * FRAME_SAMPLES / VOICE_RATE_HZ) for f_hz in (F0_HZ / 4, F0_HZ, 4 * F0_HZ)]]
    assert 20 * np.log10(swept.min()) > -60  # from two octaves below to two above
    assert loudest_outside(out, F0_HZ / 4 - PITCH_BAND_HZ, 4 * F0_HZ + PITCH_BAND_HZ, VOICE_RATE_HZ) < AUDIBLE_DBFS


@pytest.mark.usefixtures("a_clean_tone")
@pytest.mark.parametrize("block_ms", [40, 140])
def test_a_pitch_fader_glides_past_every_frequency_and_climbs_no_stairs(block_ms: int) -> None:
    out = converted("pitch", block_ms, level=EXCITATION, spoken=0.1)
    # The first block's way is a leap, up from the bottom of the range: a key may have been pressed.
    leapt = 2 ** (block_ms / 800 * 48 / 12)
    first, last = (round(f_hz * FRAME_SAMPLES / VOICE_RATE_HZ) for f_hz in (F0_HZ / 4 * leapt, F0_HZ * 3.5))
    assert 20 * np.log10(spectrum(out)[first:last].min()) > -30


@pytest.mark.usefixtures("a_clean_tone")
@pytest.mark.parametrize("block_ms", [40, 140])
@pytest.mark.parametrize(
    ("name", "faders", "level", "spoken"),
    [
        # Each so that the loudest moment is at -6 dBFS, below the limiter; formant: the excitation as it is.
        ("formant", FADERS, EXCITATION, 0.1),
        ("rms_mix", FADERS, LOUD, LOUD / 10),
        ("gain_in", replace(FADERS, rms_mix=0.0), EXCITATION, LOUD / 10 ** (24 / 20)),
        ("gain_out", FADERS, LOUD / 10 ** (24 / 20), 0.1),
    ],
)
def test_a_fader_of_the_converter_adds_nothing_beside_the_tone(
    name: str, faders: Snapshot, level: float, spoken: float, block_ms: int
) -> None:
    out = converted(name, block_ms, faders=faders, level=level, spoken=spoken)
    expected = EXCITATION if name == "formant" else LOUD
    assert np.abs(out).max() == pytest.approx(expected, rel=0.05)
    assert around(out, F0_HZ, FADER_BAND_HZ, VOICE_RATE_HZ) < AUDIBLE_DBFS


# ---- the built-in voice: what units that move do to a real generator, which has a texture of its own


@pytest.fixture(scope="module")
def built_in() -> tuple[ContentEncoder, Voice]:
    """The built-in encoder, and the voice with its index."""
    encoder, file = load_content_encoder(BUILT_IN_ENCODER), read_voice(BUILT_IN_FOLDER / f"{BUILT_IN_VOICE}.pth")
    index = read_index(BUILT_IN_FOLDER / f"{BUILT_IN_VOICE}.index", file.spec.config.unit_width)
    return encoder, Voice.of(BUILT_IN_VOICE, file.spec, build_synthesizer(file.spec.config, file.weights, path=""), index)


def vowel(f0_hz: float, seconds: float, rate_hz: int) -> FloatArray:
    """Harmonics with two formants, -8 dBFS."""
    at_s, parts = np.arange(round(seconds * rate_hz)) / rate_hz, []
    for k in range(1, round(8000 / f0_hz)):
        level = sum(share / (1 + ((k * f0_hz - f_hz) / 200) ** 2) for share, f_hz in ((1.0, 600), (0.5, 1700))) / k
        parts.append(level * np.cos(2 * np.pi * k * f0_hz * at_s + k * k))
    joined = np.sum(parts, axis=0)
    return (0.4 * joined / np.abs(joined).max()).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("index_rate", 1.12),
        # Sharp formants that move by two octaves in half a second pass a harmonic within a few hundredths of a second.
        ("formant", 4.0),
    ],
)
def test_a_fader_of_the_built_in_voice_adds_little_to_what_its_decoder_has_between_the_harmonics_at_rest(
    name: str, most: float, built_in: tuple[ContentEncoder, Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loudest anywhere further than a third from a harmonic, moving against resting in three places."""
    monkeypatch.setattr(
        voice_stream, "frame_noise", lambda seed, first, frames, width, stream=0: np.zeros((frames, width), np.float32)
    )
    encoder, voice = built_in
    rate_hz, block_ms = voice.spec.rate_hz, 140
    geometry = StreamGeometry.from_ms(rate_hz=rate_hz, block_ms=block_ms, lookahead_ms=100, deadline_ms=block_ms, context_ms=500)
    audio = vowel(175.0, 2.4, rate_hz)
    there_and_back: Movement = lambda at_s: sweep(0.6)(at_s - 0.4) - sweep(0.3)(at_s - 1.2)  # noqa: E731

    def heard(movement: Movement) -> NDArray[np.float64]:
        def at(now_s: float) -> Snapshot:
            return replace(replace(FADERS, index_rate=0.0), **{name: in_range(name, movement(now_s))})

        tracker = PitchTracker(FakePitch(175.0), lookahead_frames=geometry.settle_frames)
        converter = Converter(geometry, encoder, tracker, voice, snapshot=at(0.0))
        out = in_blocks(block_ms, len(audio), lambda part, at_s: converter.process(audio[part], at(at_s)).audio, rate_hz)
        return spectrum(out[round(0.8 * rate_hz) :])

    at_hz = np.arange(FRAME_SAMPLES // 2 + 1) * rate_hz / FRAME_SAMPLES
    between = np.abs(at_hz / 175.0 - np.maximum(np.round(at_hz / 175.0), 1)) > 1 / 3
    resting = [heard(lambda _, place=place: place) for place in (0.0, 0.5, 1.0)]
    assert 20 * np.log10(np.abs(resting[0] - resting[2]).max()) > AUDIBLE_DBFS  # the fader does something
    assert heard(there_and_back)[between].max() < most * max(found[between].max() for found in resting)
