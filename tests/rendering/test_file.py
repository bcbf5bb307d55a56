from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from rvcd.audio.configured import DEMO_SPEECH
from rvcd.audio.loudness_meter import LoudnessMeter
from rvcd.config.settings import parse_config
from rvcd.engine.pitch.methods.yin import YinPitch
from rvcd.errors import AudioFileError, ParamError, RvcdError
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.rendering.batch import BatchRequest, run_batch
from rvcd.rendering.file import RenderRequest, RenderResult, render_file
from rvcd.rendering.renderer import Renderer
from rvcd.rendering.report import Status
from rvcd.rendering.setup import render_setup, settings_hash
from tests.rendering.test_batch import Watcher
from tests.support import speech_like


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "render-cache"))
    yield
    torch.set_flush_denormal(False)  # of this thread: render_file turns it on for good, which is right in a process of its own


def render(source: Path, target: Path, **options: object) -> tuple[RenderResult, list[float]]:
    progress: list[float] = []
    request = RenderRequest(source=source, target=target, **options)  # type: ignore[arg-type]
    return render_file(
        parse_config({"models": {"content_encoder": "test"}}, Path("test.toml")), request, progress.append
    ), progress


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels", "subtype"),
    [("a.wav", 48000, 1, "FLOAT"), ("b.flac", 44100, 2, "PCM_16"), ("c.wav", 8000, 1, "PCM_U8"), ("d.ogg", 96000, 2, "VORBIS")],
)
def test_any_file_becomes_the_voice_as_long_and_in_place(tmp_path, name, rate_hz, channels, subtype):
    audio = np.concatenate((np.zeros(rate_hz, np.float32), speech_like(rate_hz, 1.5), np.zeros(rate_hz // 2, np.float32)))
    soundfile.write(tmp_path / name, np.repeat(audio[:, None], channels, axis=1), rate_hz, subtype=subtype)
    result, progress = render(tmp_path / name, tmp_path / "out.wav", params={"gate": -45.0})
    out, out_rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert out_rate_hz == result.rate_hz == 40000
    assert len(out) == pytest.approx(len(audio) * 40000 / rate_hz, abs=2)
    heard = np.flatnonzero(np.abs(out) > 0.01)
    assert heard[0] == pytest.approx(40000, abs=3000)
    assert progress == sorted(progress) and progress[-1] == 1.0
    assert not list(tmp_path.glob("*.part*"))


def test_pitch_and_output_rate_are_as_asked(tmp_path):
    rate_hz = 16000
    t = np.arange(2 * rate_hz) / rate_hz
    hum = 0.2 * sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 8))
    soundfile.write(tmp_path / "in.wav", hum, rate_hz)
    render(tmp_path / "in.wav", tmp_path / "out.wav", params={"pitch": 7.0}, rate_hz=16000, f0_method="yin")
    out, out_rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert out_rate_hz == 16000
    track = YinPitch().estimate(out)[40:160]
    assert np.median(track.f0_hz[track.voiced]) == pytest.approx(150 * 2 ** (7 / 12), rel=0.01)


def test_an_existing_target_is_kept_unless_forced(tmp_path):
    soundfile.write(tmp_path / "in.wav", speech_like(16000, 0.5), 16000)
    (tmp_path / "out.wav").write_text("mine")
    with pytest.raises(AudioFileError, match=r"out\.wav"):
        render(tmp_path / "in.wav", tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_text() == "mine"
    render(tmp_path / "in.wav", tmp_path / "out.wav", force=True)
    assert soundfile.info(tmp_path / "out.wav").frames > 0


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"voice": "no-such"}, "no-such"),
        ({"voice": "missing.pth"}, "missing.pth"),
        ({"f0_method": "swiftt"}, "did you mean 'swift'"),
        ({"rate_hz": 12345}, "12345"),
        ({"params": {"pitch": float("nan")}}, "pitch"),
        ({"params": {"pich": 1.0}}, "pich"),
    ],
)
def test_what_cannot_be_rendered_is_said_in_one_sentence_and_leaves_nothing(tmp_path, options, names):
    soundfile.write(tmp_path / "in.wav", speech_like(16000, 0.3), 16000)
    with pytest.raises(RvcdError) as caught:
        render(tmp_path / "in.wav", tmp_path / "out.wav", **options)
    assert names in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav"]
    assert isinstance(caught.value, (ParamError, RvcdError))


def test_a_voice_brings_its_gain_and_parameters_and_the_command_line_has_the_last_word(tmp_path):
    weights = ensure_test_weights(tmp_path)
    voice = tmp_path / "voice" / "own.pth"
    voice.parent.mkdir()
    voice.write_bytes(weights.voice_v2.read_bytes())
    soundfile.write(tmp_path / "in.wav", 0.3 * speech_like(48000, 1.0), 48000)

    def level(**options: object) -> float:
        render(tmp_path / "in.wav", tmp_path / "out.wav", voice=str(voice), force=True, **options)
        return float(np.sqrt(np.mean(soundfile.read(tmp_path / "out.wav")[0] ** 2)))

    plain = level()
    (voice.parent / "voice.toml").write_text("gain_db = -6.0\n")
    assert 20 * np.log10(level() / plain) == pytest.approx(-6.0, abs=0.2)
    (voice.parent / "voice.toml").write_text("[params]\ngain_out = -12.0\n")
    assert 20 * np.log10(level() / plain) == pytest.approx(-12.0, abs=0.2)
    assert level(params={"gain_out": 0.0}) == pytest.approx(plain, rel=0.02)
    (voice.parent / "voice.toml").write_text("speaker = 999\n")
    with pytest.raises(ParamError, match=r"own\.pth: has speakers 0\.\."):
        level()


def test_a_configured_index_that_cannot_serve_is_done_without_and_one_that_is_named_is_refused(tmp_path):
    soundfile.write(tmp_path / "in.wav", speech_like(16000, 0.5), 16000)
    index = tmp_path / "a.index"
    index.write_text("hello")
    weights = ensure_test_weights(tmp_path / "weights")
    content = {
        "models": {"content_encoder": str(weights.encoder)},
        "voices": {"voice": str(weights.voice_v2), "index": str(index)},
    }
    settings = parse_config(content, tmp_path / "test.toml")
    result = render_file(settings, RenderRequest(tmp_path / "in.wav", tmp_path / "out.wav"), lambda done: None)
    (note,) = result.notes
    assert note.startswith(f"{result.voice} runs without its index: {index}: is ") and result.duration_s > 0.4
    request = RenderRequest(tmp_path / "in.wav", tmp_path / "other.wav", index=str(index))
    with pytest.raises(RvcdError, match=rf"^{index}: "):
        render_file(settings, request, lambda done: None)
    assert not (tmp_path / "other.wav").exists()


def test_two_channels_are_two_voices_where_they_are_kept(tmp_path):
    left, right = speech_like(16000, 1.5), np.zeros(24000, np.float32)
    soundfile.write(tmp_path / "in.wav", np.stack((left, right), axis=1), 16000)
    soundfile.write(tmp_path / "left.wav", left, 16000)
    render(tmp_path / "in.wav", tmp_path / "out.flac", channels="keep", rate_hz=16000)
    render(tmp_path / "left.wav", tmp_path / "mono.flac", channels="keep", rate_hz=16000)
    out, mono = (soundfile.read(tmp_path / name, dtype="float32")[0] for name in ("out.flac", "mono.flac"))
    assert out.shape == (24000, 2) and mono.shape == (24000,)
    np.testing.assert_array_equal(out[:, 0], mono)
    assert np.abs(out[:, 0]).max() > 0.01 and np.abs(out[:, 1]).max() == 0


@pytest.mark.parametrize(
    ("channels", "file_channels", "words"), [("2", 1, "has 1 channel"), ("keep", 9, "has 9 channels, and 8 can be kept")]
)
def test_channels_that_cannot_be_had_are_said(tmp_path, channels, file_channels, words):
    soundfile.write(tmp_path / "in.wav", np.repeat(speech_like(16000, 0.3)[:, None], file_channels, axis=1), 16000)
    with pytest.raises(AudioFileError, match=words):
        render(tmp_path / "in.wav", tmp_path / "out.wav", channels=channels)
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize("channels", ["1", "keep"])
def test_the_loudness_that_is_asked_for_is_that_of_the_file(tmp_path, channels):
    audio = 0.2 * speech_like(16000, 4.0)
    soundfile.write(tmp_path / "in.wav", np.stack((audio, audio), axis=1), 16000)
    result, progress = render(tmp_path / "in.wav", tmp_path / "out.wav", loudness_lufs=-24.0, channels=channels)
    out, rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    meter = LoudnessMeter(rate_hz, out.shape[1])
    meter.feed(out)
    assert meter.integrated_lufs() == pytest.approx(-24.0, abs=0.1)
    assert result.levels.loudness_lufs == pytest.approx(-24.0, abs=0.1) and result.notes == ()
    assert progress == sorted(progress)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", "out.wav"]


def test_a_loudness_that_cannot_be_reached_is_noted_and_nothing_is_clipped(tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros(16000, np.float32), 16000)
    result, _ = render(tmp_path / "in.wav", tmp_path / "out.wav", loudness_lufs=-16.0)
    assert "is silent or too short to have a loudness" in result.notes[0]
    soundfile.write(tmp_path / "in.wav", speech_like(16000, 2.0), 16000)
    result, _ = render(tmp_path / "in.wav", tmp_path / "out.wav", loudness_lufs=-5.0, force=True)
    assert "the limiter or the largest gain did not allow more" in result.notes[0]
    assert np.abs(soundfile.read(tmp_path / "out.wav")[0]).max() <= 1.0


@pytest.mark.parametrize(("name", "rate_hz"), [("out.opus", 48000), ("out.mp3", 44100), ("out.flac", 40000)])
def test_a_format_that_lacks_the_voices_rate_gets_the_next_higher_one(tmp_path, name, rate_hz):
    soundfile.write(tmp_path / "in.wav", speech_like(16000, 0.5), 16000)
    result, _ = render(tmp_path / "in.wav", tmp_path / name)
    assert result.rate_hz == soundfile.info(tmp_path / name).samplerate == rate_hz


class LongSource:
    """Speech-like audio of any length that no disk has to hold; looks at what is alive after each minute."""

    rate_hz, channels, note = 16000, 1, ""

    def __init__(self, minutes: int) -> None:
        self.total_samples = minutes * 60 * self.rate_hz
        self.alive_bytes: list[int] = []

    def __iter__(self):
        ten_seconds = 0.1 * speech_like(self.rate_hz, 10.0)
        for n in range(self.total_samples // len(ten_seconds)):
            if n % 6 == 5:
                gc.collect()
                tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if is_tensor(t)}
                self.alive_bytes.append(sum(tensors.values()) + tracemalloc.get_traced_memory()[0])
            yield ten_seconds

    def frames(self):
        return (mono[:, None] for mono in self)


def is_tensor(found: object) -> bool:
    return type(found) is torch.Tensor and found.layout is torch.strided  # the others are packed weights


@pytest.mark.soak
def test_memory_does_not_grow_with_the_length_of_a_file():
    settings = parse_config({"models": {"content_encoder": "test"}}, Path("test.toml"))
    renderer = Renderer(render_setup(settings))
    tracemalloc.start()
    try:
        source = LongSource(minutes=4)
        conversion = renderer.convert(source)
        seconds = sum(len(block) for block in conversion.blocks) / conversion.rate_hz
    finally:
        tracemalloc.stop()
    assert seconds == pytest.approx(240.0)
    # Of the numbers that the loudness needs, 5 kB a minute: ten hours are 3 MB.
    assert source.alive_bytes[-1] - source.alive_bytes[1] < 2 * 50_000


def test_a_batch_with_real_workers_gives_the_same_files_whatever_their_number(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "in" / name / f"{name}.wav", speech_like(16000, 0.6, seed=ord(name)), 16000)
    (tmp_path / "in/bad.wav").write_text("no audio")
    settings = parse_config({"models": {"content_encoder": "test"}}, tmp_path / "test.toml")
    for jobs in (1, 2):
        request = BatchRequest((str(tmp_path / "in"),), tmp_path / f"out{jobs}", format="flac", jobs=jobs, loudness_lufs=-20.0)
        report = run_batch(settings, request, Watcher())
        assert (report.count(Status.DONE), report.count(Status.FAILED), report.jobs) == (3, 1, jobs)
        assert "bad.wav: not an audio file" in report.rows[0].error
    for name in ("a/a.flac", "b/b.flac", "c/c.flac"):
        assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()


def test_a_file_that_is_cleaned_is_as_long_and_in_place(tmp_path):
    speech, rate_hz = soundfile.read(DEMO_SPEECH, dtype="float32")
    speech = speech[: 2 * rate_hz]
    begins = int(np.flatnonzero(np.abs(speech) > 0.02)[0])
    noise = 0.01 * np.random.default_rng(1).standard_normal(3 * rate_hz).astype(np.float32)
    soundfile.write(
        tmp_path / "in.wav", noise + np.concatenate((np.zeros(rate_hz, np.float32), speech)), rate_hz, subtype="FLOAT"
    )
    made = {}
    for denoise in (0.0, 1.0):
        render(tmp_path / "in.wav", tmp_path / f"{denoise}.wav", params={"denoise": denoise, "gate": -55.0}, rate_hz=rate_hz)
        made[denoise] = soundfile.read(tmp_path / f"{denoise}.wav", dtype="float32")[0]
        assert len(made[denoise]) == 3 * rate_hz
    quiet = slice(rate_hz // 2, rate_hz)
    assert np.abs(made[0.0][quiet]).max() > 1e-3 and not made[1.0][quiet].any()
    heard = np.flatnonzero(np.abs(made[1.0]) > 0.01)
    assert heard[heard > quiet.stop - 1][0] == pytest.approx(rate_hz + begins, abs=0.08 * rate_hz)


def harmonics(path: Path, f0_hz: float, seconds: float = 4.0) -> Path:
    t = np.arange(round(seconds * 16000)) / 16000
    soundfile.write(path, 0.1 * sum(np.sin(2 * np.pi * k * f0_hz * t) / k for k in range(1, 10)), 16000)
    return path


def voice_with_a_register(folder: Path, f0_median_hz: float) -> Path:
    weights = ensure_test_weights(folder / "weights")
    voice = folder / "voice" / "Anna.pth"
    voice.parent.mkdir()
    voice.write_bytes(weights.voice_v2.read_bytes())
    (voice.parent / "voice.toml").write_text(f"f0_median_hz = {f0_median_hz}\n[params]\npitch = 9.0\n")
    return voice


def test_auto_brings_the_median_of_the_whole_file_to_the_register_and_pitch_is_added(tmp_path):
    voice = voice_with_a_register(tmp_path, 220.0)
    source = harmonics(tmp_path / "in.wav", 150.0)
    settings = parse_config({"models": {"content_encoder": "test"}}, Path("test.toml"))
    for pitch, wanted_hz in ((None, 220.0), (2.0, 220.0 * 2 ** (2 / 12))):
        params = {} if pitch is None else {"pitch": pitch}
        request = RenderRequest(source, tmp_path / "out.wav", voice=str(voice), params=params, pitch_mode="auto", force=True)
        result = render_file(settings, request, lambda done: None)
        assert any("pitch mode auto: +7 semitones" in note and "voice 220 Hz" in note for note in result.notes)
        out, rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32")
        track = YinPitch().estimate(soxr.resample(out, rate_hz, 16000))
        assert np.median(track.f0_hz[track.voiced]) == pytest.approx(150.0 * 2 ** ((7 + (pitch or 0)) / 12), rel=0.02), wanted_hz


def test_auto_renders_a_file_without_speech_with_pitch_alone_and_says_so(tmp_path):
    voice = voice_with_a_register(tmp_path, 220.0)
    soundfile.write(tmp_path / "in.wav", np.zeros(16000), 16000)
    settings = parse_config({"models": {"content_encoder": "test"}}, Path("test.toml"))
    request = RenderRequest(tmp_path / "in.wav", tmp_path / "out.wav", voice=str(voice), pitch_mode="auto")
    assert any("only --pitch transposes it" in note for note in render_file(settings, request, lambda done: None).notes)


def test_auto_is_refused_for_a_voice_without_a_register_and_for_a_pipe(tmp_path):
    settings = parse_config({"models": {"content_encoder": "test"}}, Path("test.toml"))
    with pytest.raises(ParamError, match="test-buzz has no register"):
        render_setup(settings, pitch_mode="auto")
    with pytest.raises(ParamError, match="takes manual or auto"):
        render_setup(settings, pitch_mode="on")


def test_a_configured_auto_holds_for_files_unless_the_command_says_manual(tmp_path):
    voice = voice_with_a_register(tmp_path, 220.0)
    settings = parse_config({"models": {"content_encoder": "test"}, "engine": {"pitch_mode": "auto"}}, Path("test.toml"))
    assert render_setup(settings, voice=str(voice), pitch_mode="").register_hz == 220.0
    by_hand = render_setup(settings, voice=str(voice), pitch_mode="manual")
    assert by_hand.register_hz == 0 and by_hand.params[0] == 9.0
    without = render_setup(settings, pitch_mode="", params={"pitch": 2.0})
    assert without.register_hz == 0 and without.params[0] == 2.0
    assert len(without.notes) == 1 and "engine.pitch_mode is auto, but test-buzz has no register" in without.notes[0]


def test_what_was_rendered_before_autotune_is_as_good_where_it_is_off(tmp_path):
    settings = parse_config({"models": {"content_encoder": "test"}}, Path("test.toml"))
    other = parse_config({"models": {"content_encoder": "test"}, "engine": {"autotune_a4_hz": 442.0}}, Path("test.toml"))
    off = settings_hash(render_setup(settings))
    assert settings_hash(render_setup(other, params={"autotune_key": "D", "autotune_time": 10.0})) == off
    on = {settings_hash(render_setup(which, params={"autotune": 1.0, "autotune_key": key}))
          for which in (settings, other) for key in ("C", "D")}  # fmt: skip
    assert len(on) == 4 and off not in on


def test_a_file_is_tuned_as_the_parameters_say(tmp_path):
    source = harmonics(tmp_path / "in.wav", 215.0)  # 40 cents below A3
    settings = parse_config({"models": {"content_encoder": "test"}, "params": {"autotune": 1.0}}, Path("test.toml"))
    for params, wanted_hz in (({}, 220.0), ({"autotune_scale": 1.0, "autotune_key": 5.0, "pitch": 1.6}, 233.1)):
        render_file(settings, RenderRequest(source, tmp_path / "out.wav", params=params, force=True), lambda done: None)
        out, rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32")
        track = YinPitch().estimate(soxr.resample(out, rate_hz, 16000))
        assert np.median(track.f0_hz[track.voiced]) == pytest.approx(wanted_hz, rel=0.003)
