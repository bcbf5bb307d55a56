"""People's voices with an f0 that is known: recordings taken apart by WORLD and put together again with another f0.

The spectral envelope and the breath of each 5 ms are the person's; the f0 is ours, moved as it moves when people are excited,
shout, laugh, sing or creak, and what else changes then is changed, too: the tilt, the first formant, clipping. A whisper has no
voiced frame at all.

What it leaves out: pulses are WORLD's, regular but for the jitter given here, with the phase of their envelope. Real voices are
less regular, so every method does better here than on them. That favours methods by autocorrelation, if any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pitch_methods.agreement import agreement
from pitch_methods.clip import RATE_HZ, Audio, Clip, Floats, at_level
from rvcd.engine.pitch import F0_MAX_HZ, create_pitch_method
from rvcd.engine.pitch.methods.world import load_package

PERIOD_MS = 5.0
LOWEST_HZ = 52.0
SURE_OF = ("swift", "pm", "harvest")
"""Offline, two of these say where a recording is voiced and at which f0, to take it apart. What they miss is made unvoiced."""
COLLAR = 4
"""Steps of 5 ms each side of a change of voicing of which nobody can say what they are."""
FAINT_DB = 25.0
"""Below the loudest step: noise 10 dB below speech hides what is fainter."""
BREATHY = 0.5
"""The part of the power below 1.5 kHz that is noise, above which a step is neither voiced nor unvoiced."""


@dataclass(frozen=True)
class Voice:
    """A voice in steps of 5 ms: f0_hz (T,), 0 where unvoiced; envelope, power, and aperiodicity, amplitude 0..1: (T, bins)."""

    f0_hz: Floats
    envelope: Floats
    aperiodicity: Floats

    @property
    def voiced(self) -> Floats:
        return np.flatnonzero(self.f0_hz > 0)

    @property
    def usual_hz(self) -> float:
        return float(np.median(self.f0_hz[self.voiced]))

    def at(self, steps: Floats) -> Voice:
        return Voice(self.f0_hz[steps], self.envelope[steps], self.aperiodicity[steps])


Manner = Callable[[Voice, np.random.Generator], Voice]


def take_apart(audio: Audio, sure_of: Sequence[str] = SURE_OF) -> Voice:
    """Return the voice of a clean recording, (samples,) at 16 kHz. sure_of: three methods that say where it is voiced."""
    world, samples = load_package("harvest"), audio.astype(np.float64)
    tracks = [create_pitch_method(name).estimate(audio) for name in sure_of]
    frames_hz = np.nan_to_num(agreement(tracks, share=0.6))
    times = np.arange(len(samples) / RATE_HZ * 1000 / PERIOD_MS + 1) * PERIOD_MS / 1000
    f0_hz = between(frames_hz, len(times))
    size = world.get_cheaptrick_fft_size(RATE_HZ, LOWEST_HZ)
    envelope = world.cheaptrick(samples, f0_hz, times, RATE_HZ, f0_floor=LOWEST_HZ, fft_size=size)
    # Threshold 0: a frame that is called voiced here is made voiced, whatever WORLD thinks of it.
    aperiodicity = world.d4c(samples, f0_hz, times, RATE_HZ, threshold=0.0, fft_size=size)
    return Voice(f0_hz, envelope, aperiodicity)


def between(frames_hz: Floats, count: int) -> Floats:
    """Return f0 every 5 ms of f0 every 10 ms; runs of less than three frames are unvoiced."""
    frames_hz = frames_hz.copy()
    edges = np.flatnonzero(np.diff(np.concatenate(([0], frames_hz > 0, [0]))))
    for first, end in edges.reshape(-1, 2):
        if end - first < 3:
            frames_hz[first:end] = 0
    at = np.minimum(np.arange(count) / 2, len(frames_hz) - 1)
    low, high = frames_hz[np.floor(at).astype(int)], frames_hz[np.ceil(at).astype(int)]
    both = (low > 0) & (high > 0)
    return np.where(both, np.sqrt(np.maximum(low * high, 0)), 0.0)


def put_together(kind: str, voice: Voice, jitter: float, random: np.random.Generator, drive_db: float = 0.0) -> Clip:
    """Make a clip. jitter: deviation of each 5 ms from f0, as a part of it. drive_db: how far above the clipping level it is."""
    world = load_package("harvest")
    f0_hz = np.where(voice.f0_hz > 0, np.clip(voice.f0_hz, LOWEST_HZ, F0_MAX_HZ * 0.9), 0.0)
    shaken = f0_hz * np.exp(jitter * random.standard_normal(len(f0_hz)))
    sound = world.synthesize(shaken, voice.envelope.copy(), voice.aperiodicity.copy(), RATE_HZ, PERIOD_MS)
    audio = at_level(sound.astype(np.float32))
    if drive_db:
        limit = float(np.abs(audio).max()) * 10 ** (-drive_db / 20)
        audio = np.clip(audio, -limit, limit) * np.float32(0.9 / limit)
    return Clip(kind, audio, known(replace(voice, f0_hz=f0_hz))[: len(audio) // 160])


def known(voice: Voice) -> Floats:
    """Return the truth of each 10 ms frame: NaN near changes of voicing, and where what is voiced is faint or mostly breath."""
    truth, voiced = voice.f0_hz.copy(), voice.f0_hz > 0
    level_db = 10 * np.log10(voice.envelope.sum(axis=1) + 1e-16)
    low = slice(1, int(1500 / (RATE_HZ / 2) * voice.envelope.shape[1]))
    power = voice.envelope[:, low]
    breath = np.sum(power * np.square(voice.aperiodicity[:, low]), axis=1) / np.sum(power, axis=1)
    truth[voiced & ((level_db < level_db.max() - FAINT_DB) | (breath > BREATHY))] = np.nan
    for change in np.flatnonzero(np.diff(voiced)):
        truth[max(0, change + 1 - COLLAR) : change + 1 + COLLAR] = np.nan
    return truth[::2]


# ---- manners of speaking


def as_spoken(voice: Voice, random: np.random.Generator) -> Voice:
    return voice


def emotional(voice: Voice, random: np.random.Generator) -> Voice:
    """Five semitones higher, moving 1.8 times as far, with a tremor, brighter."""
    t = np.arange(len(voice.f0_hz)) * PERIOD_MS / 1000
    semitones = 5 + 1.8 * above(voice, voice.usual_hz) + 0.4 * np.sin(2 * np.pi * 7 * t)
    return tilted(replace(voice, f0_hz=moved(voice, semitones)), 3.0)


def shouted(voice: Voice, random: np.random.Generator) -> Voice:
    """An octave and more higher for low voices, less for high ones; bright, the first formant up, hardly any breath."""
    up = 14.0 if voice.usual_hz < 160 else 10.0
    loud = replace(voice, f0_hz=moved(voice, up + 1.3 * above(voice, voice.usual_hz)), aperiodicity=0.7 * voice.aperiodicity)
    return tilted(warped(loud, 1.15), 6.0)


def whispered(voice: Voice, random: np.random.Generator) -> Voice:
    """Noise through the person's envelope, with little below 800 Hz."""
    hz = np.linspace(1, RATE_HZ / 2, voice.envelope.shape[1])
    quiet = replace(voice, f0_hz=np.zeros_like(voice.f0_hz), envelope=voice.envelope * np.minimum(1, hz / 800) ** 2)
    return tilted(warped(quiet, 1.1), 3.0)


def laughed(voice: Voice, random: np.random.Generator) -> Voice:
    """Four bursts a second, each begun an octave up and falling, breath between them, over the person's voiced steps."""
    voice = voice.at(voice.voiced)
    t = np.arange(len(voice.f0_hz)) * PERIOD_MS / 1000
    within = (t * 4.0) % 1.0
    sounds = within < 0.5
    f0_hz = voice.usual_hz * 2 ** ((12 - 10 * within - 4 * ((t / 1.5) % 1.0)) / 12)
    gain = np.where(sounds, 1.0, 10**-1.2)
    # More breath than usual in what sounds.
    return Voice(np.where(sounds, f0_hz, 0.0), voice.envelope * gain[:, None], voice.aperiodicity**0.7)


def sung(voice: Voice, random: np.random.Generator) -> Voice:
    """Vowels held, notes over two octaves with a vibrato of a semitone each way, to 800 Hz for high voices."""
    steps = voice.voiced
    voice = voice.at(steps[(np.arange(len(steps) * 2) // 2)])
    t = np.arange(len(voice.f0_hz)) * PERIOD_MS / 1000
    scale = np.array([0, 4, 7, 12, 16, 19, 24, 19, 12, 7])
    notes = scale[(t / 0.6).astype(int) % len(scale)].astype(float)
    notes = np.convolve(np.pad(notes, 6, mode="edge"), np.ones(13) / 13, mode="valid")  # a glide of 65 ms
    lowest = 110.0 if voice.usual_hz < 160 else 196.0
    return replace(voice, f0_hz=np.minimum(lowest * 2 ** ((notes + np.sin(2 * np.pi * 5.5 * t)) / 12), 800.0))


def creaky(voice: Voice, random: np.random.Generator) -> Voice:
    """An octave down for low voices, to 60 Hz or so for all."""
    return replace(voice, f0_hz=moved(voice, 12 * np.log2(62.0 / voice.usual_hz) + 0.4 * above(voice, voice.usual_hz)))


@dataclass(frozen=True)
class Way:
    make: Manner
    jitter: float
    drive_db: float = 0.0


MANNERS = {
    "as spoken": Way(as_spoken, 0.005),
    "excited": Way(emotional, 0.015),
    "shouted": Way(shouted, 0.015, 12.0),
    "whispered": Way(whispered, 0.0),
    "laughed": Way(laughed, 0.02),
    "sung": Way(sung, 0.003),
    "creaky": Way(creaky, 0.05),
}


def clips_of(audio: Audio, number: int, sure_of: Sequence[str] = SURE_OF) -> list[Clip]:
    """Return the person of a clean recording in every manner. number: seeds the jitter. sure_of: see take_apart()."""
    voice = take_apart(audio, sure_of)
    if len(voice.voiced) < 100:
        return []
    clips = []
    for kind, way in MANNERS.items():
        random = np.random.default_rng(number)
        clips.append(put_together(kind, way.make(voice, random), way.jitter, random, way.drive_db))
    return clips


def above(voice: Voice, hz: float) -> Floats:
    """Return how many semitones each step is above hz; 0 where unvoiced."""
    return np.where(voice.f0_hz > 0, 12 * np.log2(np.maximum(voice.f0_hz, 1.0) / hz), 0.0)


def moved(voice: Voice, semitones: Floats) -> Floats:
    """Return an f0 that is `semitones` above the usual one, unvoiced where the voice is."""
    return np.where(voice.f0_hz > 0, voice.usual_hz * 2 ** (semitones / 12), 0.0)


def tilted(voice: Voice, db_per_octave: float) -> Voice:
    """Return it brighter by so much between 500 Hz and 4 kHz."""
    hz = np.linspace(1, RATE_HZ / 2, voice.envelope.shape[1])
    return replace(voice, envelope=voice.envelope * 10 ** (db_per_octave * np.log2(np.clip(hz, 500, 4000) / 500) / 10))


def warped(voice: Voice, factor: float) -> Voice:
    """Return it with the envelope's frequencies times factor up to 1.5 kHz, less and less above, none at the top."""
    top = RATE_HZ / 2
    hz = np.linspace(0, top, voice.envelope.shape[1])
    source = np.interp(hz, [0, 1500 * factor, top], [0, 1500, top])
    return replace(voice, envelope=np.exp(np.array([np.interp(source, hz, row) for row in np.log(voice.envelope + 1e-16)])))
