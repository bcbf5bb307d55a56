"""Clips through the engine: as a stream in the live preset's blocks, and in one pass with full context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from msgspec import structs

from rvcd.audio.files import read_audio
from rvcd.config.settings import Settings
from rvcd.config.sizes import geometry_of
from rvcd.engine.loader import Loader
from rvcd.engine.pitch import PitchTrack
from rvcd.errors import AudioFileError
from rvcd.evaluation.measures import RATE_HZ, FloatArray
from rvcd.evaluation.offline import convert_offline
from rvcd.params import ParamStore, Snapshot
from rvcd.voices.configured import model_setup, voice_files
from rvcd.voices.registry import VoiceEntry

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif")


def clips_in(folder: Path) -> list[Path]:
    """Return the audio files of a folder, by name. Raises AudioFileError when it is none or cannot be looked into."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise AudioFileError(f"{folder}: {(error.strerror or str(error)).lower()}; name a folder with audio files") from None


def read_clip(path: Path) -> FloatArray:
    """Return a file as mono at 16 kHz. Raises AudioFileError."""
    audio, rate_hz = read_audio(path)
    return np.asarray(soxr.resample(audio, rate_hz, RATE_HZ), np.float32)


@dataclass(frozen=True)
class Converted:
    """A clip's conversions at 16 kHz, aligned with it.

    load: time to compute a block / the block's own, the median. real_time: seconds of audio streamed in a second of computing.
    """

    streamed: FloatArray
    offline: FloatArray
    load: float
    real_time: float = float("nan")


class Conversion:
    """One voice, loaded once, for many clips. Raises RvcdError for anything wrong with its files."""

    def __init__(
        self, settings: Settings, entry: VoiceEntry, preset: str, f0_method: str, warn: Callable[[str], None] | None = None
    ) -> None:
        """warn: told why the voice runs without its index; None: one whose index cannot serve is refused."""
        setup, files = model_setup(settings), voice_files(settings, entry)
        self.geometry = geometry_of(settings, preset)
        self._entry, self._loader = entry, Loader(setup, self.geometry, warn)
        if setup.threads:
            torch.set_num_threads(setup.threads)
        torch.set_flush_denormal(True)
        self._method = self._loader.pitch_method(f0_method)
        self._store = ParamStore({**settings.initial_params(), **entry.params})
        self.voice = self._loader.voice(files)
        # In one pass the plain modules run, in float32.
        self._plain = Loader(structs.replace(setup, precision="fp32"), self.geometry, warn and (lambda _: None))
        self._plain_voice = self._plain.voice(files, keep_decoder=True)

    def pitch(self, audio_16k: FloatArray) -> PitchTrack:
        """Return the track of a whole clip."""
        return self._method.estimate(audio_16k)

    def convert(self, audio_16k: FloatArray, pitch_semitones: float) -> Converted:
        """Convert one clip both ways, with the voice's own parameters and this transposition."""
        self._store.set("pitch", pitch_semitones)
        snapshot = self._store.snapshot()
        streamed, load, real_time = self._timed_stream(audio_16k, snapshot)
        offline = convert_offline(
            audio_16k, self._plain_voice.encoder or self._plain.encoder(), self._method, self._plain_voice, snapshot
        )
        return Converted(
            streamed, np.asarray(soxr.resample(offline, self.voice.spec.rate_hz, RATE_HZ), np.float32), load, real_time
        )

    def stream(self, audio_16k: FloatArray, snapshot: Snapshot) -> tuple[FloatArray, float]:
        """Return a clip as the live stream converts it, at 16 kHz and aligned with it, and the load."""
        streamed, load, _ = self._timed_stream(audio_16k, snapshot)
        return streamed, load

    def _timed_stream(self, audio_16k: FloatArray, snapshot: Snapshot) -> tuple[FloatArray, float, float]:
        """Return the same, and seconds of audio streamed in a second of computing."""
        geometry, rate_hz = self.geometry, self.geometry.rate_hz
        converter = self._loader.converter(
            self.voice, self._method, snapshot, speaker=self._entry.speaker, gain_db=self._entry.gain_db
        )
        size, delay = geometry.block_samples, geometry.delay_samples
        audio = np.asarray(soxr.resample(audio_16k, RATE_HZ, rate_hz), np.float32)
        blocks = -(-(len(audio) + delay) // size)
        padded = np.pad(audio, (0, blocks * size - len(audio)))
        made, compute_ms = [], []
        for n in range(blocks):
            block = converter.process(padded[n * size : (n + 1) * size], snapshot)
            made.append(block.audio)
            compute_ms.append(block.timings.total_ms)
        streamed = np.concatenate(made)[delay : delay + len(audio)]
        load = float(np.median(compute_ms)) * rate_hz / 1000 / size
        real_time = blocks * size / rate_hz / max(1e-9, sum(compute_ms) / 1000)
        return np.asarray(soxr.resample(streamed, rate_hz, RATE_HZ), np.float32), load, real_time
