"""FCPE through torchfcpe (weights in the package), an optional extra."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from rvcd.engine.pitch.methods.imports import stand_ins
from rvcd.engine.pitch.methods.periodicity import drop_aperiodic
from rvcd.engine.pitch.track import ANALYSIS_RATE_HZ, F0_MIN_HZ, FRAME_SAMPLES, PitchTrack, clean_audio, settle
from rvcd.errors import MissingExtraError, how_to_install

DECODER = "local_argmax"
THRESHOLD = 0.006
_MIN_SAMPLES = 1024
"""One analysis window of the network; shorter audio is unvoiced."""
_TAIL_SAMPLES = 512
"""Zeros after the audio, half of that window, instead of torchfcpe's reflection: measured on speech in 100 ms blocks without
lookahead, errors above 100 cents fall from 2.9 % to 0.6 % of the frames."""


def load_package() -> Any:
    """Import torchfcpe. Raises MissingExtraError without it."""
    with _as_torchfcpe_needs_it():
        try:
            return import_module("torchfcpe")
        except (ImportError, OSError) as error:
            raise MissingExtraError(f"f0 method fcpe needs torchfcpe ({error}); {how_to_install('fcpe')}") from None


@contextlib.contextmanager
def _as_torchfcpe_needs_it() -> Iterator[None]:
    # torchfcpe needs torchaudio only to resample, which never happens here, and torchaudio's wheel refuses to load beside
    # a torch of another build (PyPI's wants CUDA's libraries). Hence the stand-in.
    # torchfcpe prints its progress; the worker's standard output is not the place for it.
    resample = {"Resample": _NoResample}
    with contextlib.redirect_stdout(io.StringIO()), stand_ins(torchaudio={}, torchaudio__transforms=resample):
        yield


class FcpePitch:
    """f0 by FCPE: decoder local_argmax, threshold 0.006."""

    name = "fcpe"
    context_frames = 40
    lookahead_frames = 20
    grid_frames = 1
    step_frames = 1

    def __init__(self, model: Any) -> None:
        """model: a torchfcpe inference model: model(wav (1, N, 1), rate, decoder_mode=, threshold=) -> f0 (1, T + 1, 1)."""
        self._model = model

    @classmethod
    def bundled(cls, device: str = "cpu") -> FcpePitch:
        """Load the weights that come with torchfcpe. Raises MissingExtraError without it."""
        with _as_torchfcpe_needs_it():
            return cls(load_package().spawn_bundled_infer_model(device=device))

    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        """See PitchMethod."""
        import torch

        audio = clean_audio(audio_16k)
        if len(audio) < _MIN_SAMPLES:
            return PitchTrack.unvoiced(len(audio) // FRAME_SAMPLES)
        wave = torch.from_numpy(np.pad(np.clip(audio, -1.0, 1.0), (0, _TAIL_SAMPLES)))[None, :, None]
        with torch.inference_mode():
            answer = self._model(wave, sr=ANALYSIS_RATE_HZ, decoder_mode=DECODER, threshold=THRESHOLD)
        f0_hz = answer.reshape(-1).float().cpu().numpy().astype(np.float64)
        return drop_aperiodic(settle(f0_hz, f0_hz >= F0_MIN_HZ, audio), audio)


class _NoResample:
    """Stands where torchaudio's Resample would; never reached, because our audio is 16 kHz already."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise RuntimeError("fcpe is given 16 kHz audio only")
