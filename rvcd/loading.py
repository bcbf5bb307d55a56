"""From files to a converter: what the worker and `rvcd render` share."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from rvcd.engine.converter import Converter
from rvcd.engine.pitch import PitchMethod, PitchTracker, create_pitch_method
from rvcd.engine.precision import choose_precision
from rvcd.engine.retrieval import read_index
from rvcd.engine.units import ContentEncoder
from rvcd.engine.voice_stream import Voice
from rvcd.errors import ModelFileError, ParamError
from rvcd.geometry import StreamGeometry
from rvcd.models.contentvec_file import load_content_encoder
from rvcd.models.synthesizer import build_synthesizer
from rvcd.models.test_weight_paths import TestWeightPaths
from rvcd.models.voice import read_voice
from rvcd.params import Snapshot
from rvcd.worker_protocol import VoiceRequest, WorkerSetup


def choose_device(name: str) -> str:
    """Return the torch device for engine.device ('auto': the GPU if there is one). Raises ParamError if it is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        number = int(name.partition(":")[2] or 0)
        if number >= count:
            raise ParamError(
                f"engine.device = '{name}' is not here: torch sees {count} CUDA device(s); "
                f"use 'cpu' or 'auto', or install torch's CUDA build"
            )
    return name


class VoiceCache:
    """The voices used last, as long as their files are what they were when they were read."""

    def __init__(self, size: int) -> None:
        """size: of voices kept, at least 1."""
        self._size = size
        self._voices: OrderedDict[tuple[object, ...], Voice] = OrderedDict()

    def get(self, request: VoiceRequest, keep_decoder: bool, read: Callable[[], Voice]) -> Voice:
        """Return the voice of these files, read by `read` if it is not kept."""
        # Looked at before they are read: files that change meanwhile are read again the next time.
        key = (*_identity(request.path), *_identity(request.index), keep_decoder)
        voice = self._voices.pop(key, None) or read()
        self._voices[key] = voice
        while len(self._voices) > self._size:
            self._voices.popitem(last=False)
        return voice


class Loader:
    """Loads each file once. Raises RvcdError with one sentence for whatever is wrong with a file.

    Yields (see rvcd.yielding) between the pieces of everything that it loads.
    """

    def __init__(self, setup: WorkerSetup, geometry: StreamGeometry) -> None:
        self.setup, self.geometry = setup, geometry
        self._encoder: ContentEncoder | None = None
        self._voices = VoiceCache(setup.keep_loaded)

    @cached_property
    def device(self) -> str:
        """The torch device everything is loaded to."""
        return choose_device(self.setup.device)

    @cached_property
    def precision(self) -> torch.dtype:
        """What the networks compute with: torch.float32 or torch.bfloat16."""
        return choose_precision(self.setup.precision, self.device)

    def encoder(self) -> ContentEncoder:
        """Return the content encoder; the test weights' where the setup names none."""
        if self._encoder is None:
            path = Path(self.setup.encoder) if self.setup.encoder else self._test_weights().encoder
            encoder: ContentEncoder = load_content_encoder(path, device=self.device)
            if self.precision is not torch.float32:
                encoder.pack(self.precision)
            self._encoder = encoder
        return self._encoder

    def voice(self, request: VoiceRequest, *, keep_decoder: bool = False) -> Voice:
        """Load a voice and its index, and check that the content encoder gives the units it wants.

        The newest `keep_loaded` voices stay in memory, and are loaded again only when their files have changed.
        keep_decoder: keep the plain decoder too, for engine.offline.
        """
        voice = self._voices.get(request, keep_decoder, lambda: self._read_voice(request, keep_decoder))
        return replace(voice, name=request.name)

    def _read_voice(self, request: VoiceRequest, keep_decoder: bool) -> Voice:
        if self.setup.test_weights_cache:
            self._test_weights()
        file, encoder = read_voice(Path(request.path)), self.encoder()
        try:
            encoder.check_unit_width(file.spec.config.unit_width)
        except ModelFileError as error:
            raise ModelFileError(f"{request.path}: does not go with the content encoder: {error}") from None
        synthesizer = build_synthesizer(file.spec.config, file.weights, path=request.path, device=self.device)
        index = read_index(Path(request.index), file.spec.config.unit_width, device=self.device) if request.index else None
        return Voice.of(request.name, file.spec, synthesizer, index, precision=self.precision, keep_decoder=keep_decoder)

    def _test_weights(self) -> TestWeightPaths:
        from rvcd.models.test_weights import ensure_test_weights

        return ensure_test_weights(Path(self.setup.test_weights_cache))

    def pitch_method(self, name: str) -> PitchMethod:
        """Load a pitch method, one of protocol.F0_METHODS."""
        rmvpe = Path(self.setup.rmvpe) if self.setup.rmvpe else None
        return create_pitch_method(name, model_path=rmvpe, device=self.device, threads=max(1, self.setup.threads))

    def converter(
        self,
        voice: Voice,
        method: PitchMethod,
        snapshot: Snapshot,
        request: VoiceRequest | None = None,
        geometry: StreamGeometry | None = None,
    ) -> Converter:
        """Return a converter with fresh stream state, sharing the networks.

        request: for the voice's speaker and gain. Raises ParamError for a speaker it lacks.
        """
        if request is not None and not 0 <= request.speaker < voice.spec.speakers:
            raise ParamError(f"{request.path}: has speakers 0..{voice.spec.speakers - 1}, not {request.speaker}")
        geometry = geometry or self.geometry
        return Converter(
            geometry,
            self.encoder(),
            PitchTracker(method, lookahead_frames=geometry.settle_frames),
            voice,
            speaker_id=request.speaker if request else 0,
            gain_db=request.gain_db if request else 0.0,
            seed=self.setup.seed,
            fill_unvoiced=self.setup.fill_unvoiced,
            snapshot=snapshot,
            device=self.device,
        )


def _identity(path: str) -> tuple[object, ...]:
    """Return what changes when the file does; its name alone where it cannot be looked at (reading it says why)."""
    try:
        found = os.stat(path) if path else None
    except OSError:
        found = None
    return (path, found.st_mtime_ns, found.st_size, found.st_ino) if found else (path,)
