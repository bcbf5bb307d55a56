"""SwiftF0: a small convolutional network, 16 ms frames, weights in the PyPI package swift-f0 (MIT). The default method."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rvcd.engine.pitch.track import (
    F0_MAX_HZ,
    F0_MIN_HZ,
    FRAME_SAMPLES,
    FloatArray,
    PitchTrack,
    clean_audio,
    settle,
    to_frame_grid,
)
from rvcd.errors import MissingExtraError, ModelFileError

HOP_SAMPLES = 256
VOICED_CONFIDENCE = 0.5
SILENCE_PEAK = 1e-3
"""On digital silence the network answers at random: hops that peak below this count as confidence 0 (as the package does)."""
RECEPTIVE_SAMPLES = 2815
_TAIL_SAMPLES = 1024
"""Zeros after the audio (half of the network's 2048-sample window). Measured on speech with no lookahead in 100 ms blocks:
voicing of the newest frames agrees with offline in 98 % of frames with them, in 87 % without; more zeros change nothing."""
_MARGIN_HOPS = 11
_PASS_HOPS = 1875
"""30 s: longer audio is analysed in overlapping passes, so that memory does not grow with the file."""


def load_package() -> tuple[Any, Path]:
    """Import onnxruntime and swift-f0; return the first and the path of the model. Raises MissingExtraError without them."""
    # Read by onnxruntime when it is imported: else it keeps an identifier of this machine below ~/.cache and reports home.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        runtime, package = import_module("onnxruntime"), import_module("swift_f0")
    except ImportError as error:
        raise MissingExtraError(f"f0 method swift cannot be loaded ({error}); run: pip install swift-f0") from None
    return runtime, Path(package.__file__ or "").with_name("model.onnx")


class SwiftPitch:
    """f0 by SwiftF0's ONNX model. A hop's value depends on 2815 samples each way."""

    name = "swift"
    # The network's reach plus one hop, because a 10 ms frame is interpolated between two hops.
    context_frames = -(-(RECEPTIVE_SAMPLES + HOP_SAMPLES) // FRAME_SAMPLES)
    lookahead_frames = context_frames
    grid_frames = 8  # 8 frames of 160 samples are 5 hops of 256

    def __init__(self, *, threads: int = 1) -> None:
        """threads: of the ONNX runtime.

        Raises MissingExtraError without swift-f0 or onnxruntime, ModelFileError for a broken model.
        """
        runtime, model = load_package()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the CPU from the decoder between blocks.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelFileError(f"{model}: not a usable SwiftF0 model ({error}); reinstall the package swift-f0") from None
        self._limits = {"fmin": np.asarray(F0_MIN_HZ, np.float32), "fmax": np.asarray(F0_MAX_HZ, np.float32)}

    def estimate(self, audio_16k: npt.ArrayLike) -> PitchTrack:
        """See PitchMethod."""
        audio = clean_audio(audio_16k)
        n_frames = len(audio) // FRAME_SAMPLES
        if len(audio) < HOP_SAMPLES:
            return PitchTrack.unvoiced(n_frames)
        f0_hz, voiced = self._hops(audio)
        times = np.arange(len(f0_hz), dtype=np.float64) * HOP_SAMPLES
        return settle(*to_frame_grid(times, f0_hz, voiced, n_frames), audio)

    def _hops(self, audio: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return (f0_hz, voiced) of every hop; hop j is centred at sample 256 * j."""
        n_hops = -(-len(audio) // HOP_SAMPLES)
        padded = np.pad(audio, (0, _TAIL_SAMPLES))
        f0_hz, confidence = np.zeros(n_hops), np.zeros(n_hops)
        for start in range(0, n_hops, _PASS_HOPS):
            end = min(start + _PASS_HOPS, n_hops)
            first = max(start - _MARGIN_HOPS, 0)
            window = padded[first * HOP_SAMPLES : (end + _MARGIN_HOPS) * HOP_SAMPLES]
            answer = self._session.run(["pitch", "confidence"], {"audio": window[None, :], **self._limits})
            f0_hz[start:end] = answer[0][0][start - first : end - first]
            confidence[start:end] = answer[1][0][start - first : end - first]
        peaks = np.abs(padded[: n_hops * HOP_SAMPLES].reshape(n_hops, HOP_SAMPLES)).max(axis=1)
        return f0_hz, (confidence >= VOICED_CONFIDENCE) & (peaks >= SILENCE_PEAK)
