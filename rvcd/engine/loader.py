"""From files to a converter: what the worker and `rvcd render` share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError

from rvcd.engine.converter import Converter
from rvcd.engine.denoiser import Denoiser
from rvcd.engine.graphs import graphs_of
from rvcd.engine.pitch import PitchMethod, PitchTracker, create_pitch_method
from rvcd.engine.precision import choose_decoder_precision, choose_precision
from rvcd.engine.retrieval import UnitIndex, read_index
from rvcd.engine.units import ContentEncoder
from rvcd.engine.voice_stream import Voice
from rvcd.errors import ModelFileError, ParamError
from rvcd.formats.contentvec_header import weights_of
from rvcd.formats.index_header import without_index
from rvcd.formats.voice_file import read_voice
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.nets import gtcrn
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.conv_ways import Ways
from rvcd.nets.packed import worth_packing
from rvcd.nets.synthesizer import build_synthesizer
from rvcd.nets.way_file import WayFile
from rvcd.params import Snapshot
from rvcd.voices.identity import file_facts, read_unmixed
from rvcd.voices.test_weight_paths import TestWeightPaths


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

    def get(self, files: VoiceFiles, encoder: Path, keep_decoder: bool, read: Callable[[], Voice]) -> Voice:
        """Return the voice of these files with this encoder, read by `read` if it is not kept."""
        # Looked at before they are read: files that change meanwhile are read again the next time.
        key = (file_facts(files.path), file_facts(files.index), file_facts(weights_of(encoder)), keep_decoder)
        voice = self._voices.pop(key, None) or read()
        self._voices[key] = voice
        while len(self._voices) > self._size:
            self._voices.popitem(last=False)
        return voice


class Loader:
    """Loads each file once. Raises RvcdError with one sentence for whatever is wrong with a file.

    Yields (see rvcd.yielding) between the pieces of everything that it loads.
    """

    def __init__(self, setup: ModelSetup, geometry: StreamGeometry, warn: Callable[[str], None] | None = None) -> None:
        """warn: told, in one sentence, why a voice runs without its index, or without the denoiser; None: it is refused."""
        self.setup, self.geometry, self._warn = setup, geometry, warn
        # An encoder stays for as long as a voice that is kept uses it; the one loaded last stays in any case.
        self._encoders: WeakValueDictionary[tuple[object, ...], ContentEncoder] = WeakValueDictionary()
        self._newest_encoder: ContentEncoder | None = None
        self._voices = VoiceCache(setup.keep_loaded)

    @cached_property
    def device(self) -> str:
        """The torch device everything is loaded to."""
        return choose_device(self.setup.device)

    @cached_property
    def precision(self) -> torch.dtype:
        """What the encoder, the prior and the flow compute with: torch.float32, torch.bfloat16 or torch.float16."""
        file = WayFile(Path(self.setup.ways_file)) if self.setup.ways_file else None
        return choose_precision(self.setup.precision, self.device, self.geometry.block_frames // 2, file)

    @cached_property
    def decoder_precision(self) -> torch.dtype:
        """What the decoders' residual blocks may be rounded to; without measured ways, what all else computes with."""
        return choose_decoder_precision(self.setup.precision, self.device) if self.ways is not None else self.precision

    @cached_property
    def ways(self) -> Ways | None:
        """How the decoders' convolutions are computed; None: directly."""
        return Ways(self.geometry.block_frames, Path(self.setup.ways_file)) if self.setup.ways_file else None

    @cached_property
    def denoise_network(self) -> gtcrn.Gtcrn | None:
        """The denoiser's network; None where it cannot be loaded, of which `warn` is told. Raises ModelFileError without one."""
        try:
            return gtcrn.Gtcrn(gtcrn.load_weights(gtcrn.WEIGHTS))
        except (OSError, SafetensorError, KeyError) as error:
            sentence = f"the denoiser cannot be loaded ({gtcrn.WEIGHTS}: {error}): install rvcd again"
            if self._warn is None:
                raise ModelFileError(sentence) from None
            self._warn(f"{sentence}; until then `denoise` does nothing")
            return None

    def encoder(self, path: str = "") -> ContentEncoder:
        """Return a content encoder by its path: "": the setup's; the test weights' where that names none either."""
        found = self._encoder_path(path)
        facts = (str(found), file_facts(weights_of(found)))
        encoder = self._encoders.get(facts)
        if encoder is None:
            encoder = load_content_encoder(found, device=self.device)
            if worth_packing(self.precision, self.device):
                encoder.pack(self.precision)
            self._encoders[facts] = encoder
        self._newest_encoder = encoder
        return encoder

    def _encoder_path(self, path: str) -> Path:
        chosen = path or self.setup.encoder
        return Path(chosen) if chosen else self._test_weights().encoder

    def voice(self, files: VoiceFiles, *, keep_decoder: bool = False) -> Voice:
        """Load a voice, its index and its content encoder, and check that this gives the units it wants.

        The newest `keep_loaded` voices stay in memory, and are loaded again only when their files have changed.
        keep_decoder: keep the plain decoder too, for engine.offline.
        """
        if files.problem:
            raise ModelFileError(files.problem)
        encoder = self._encoder_path(files.encoder)
        voice = self._voices.get(files, encoder, keep_decoder, lambda: self._read_voice(files, keep_decoder))
        return replace(voice, name=files.name)

    def _read_voice(self, files: VoiceFiles, keep_decoder: bool) -> Voice:
        if self.setup.test_weights_cache:
            self._test_weights()
        encoder = self.encoder(files.encoder)
        file = read_unmixed([files.path], lambda: read_voice(Path(files.path)))
        try:
            encoder.check_units(file.spec.config.unit_width, file.spec.unit_layer)
        except ModelFileError as error:
            raise ModelFileError(f"{files.path}: does not go with the content encoder: {error}") from None
        synthesizer = build_synthesizer(file.spec.config, file.weights, path=files.path, device=self.device)
        index = self._read_index(files, file.spec.config.unit_width)
        return Voice.of(
            files.name,
            file.spec,
            synthesizer,
            index,
            encoder,
            precision=self.precision,
            decoder_precision=self.decoder_precision,
            keep_decoder=keep_decoder,
            ways=self.ways,
        )

    def _read_index(self, files: VoiceFiles, unit_width: int) -> UnitIndex | None:
        if not files.index:
            return None
        try:
            return read_unmixed([files.index], lambda: read_index(Path(files.index), unit_width, device=self.device))
        except ModelFileError as error:
            if self._warn is None:
                raise
            self._warn(f"{files.name} {without_index(error)}")
            return None

    def _test_weights(self) -> TestWeightPaths:
        from rvcd.nets.test_weights import ensure_test_weights

        return ensure_test_weights(Path(self.setup.test_weights_cache))

    def pitch_method(self, name: str) -> PitchMethod:
        """Load a pitch method, one of protocol.F0_METHODS."""
        rmvpe = Path(self.setup.rmvpe) if self.setup.rmvpe else None
        return create_pitch_method(name, model_path=rmvpe, device=self.device)

    def converter(
        self,
        voice: Voice,
        method: PitchMethod,
        snapshot: Snapshot,
        *,
        speaker: int = 0,
        gain_db: float = 0.0,
        geometry: StreamGeometry | None = None,
    ) -> Converter:
        """Return a converter with fresh stream state, sharing the networks.

        gain_db: the voice's own, on top of gain_out. Raises ParamError for a speaker that the voice lacks.
        """
        if not 0 <= speaker < voice.spec.speakers:
            raise ParamError(f"{voice.spec.path}: has speakers 0..{voice.spec.speakers - 1}, not {speaker}")
        geometry = geometry or self.geometry
        return Converter(
            geometry,
            None if voice.encoder is not None else self.encoder(),  # else it would stay for as long as the converter
            PitchTracker(method, lookahead_frames=geometry.settle_frames),
            voice,
            speaker_id=speaker,
            gain_db=gain_db,
            seed=self.setup.seed,
            fill_unvoiced=self.setup.fill_unvoiced,
            a4_hz=self.setup.a4_hz,
            window=self.setup.context == "window",
            snapshot=snapshot,
            denoiser=self._denoiser(geometry) if geometry.denoise_samples else None,
            device=self.device,
            graphs=graphs_of(self.setup.cuda_graphs, torch.device(self.device), self._warn),
            keep_warm=self.setup.keep_warm,
        )

    def _denoiser(self, geometry: StreamGeometry) -> Denoiser:
        return Denoiser(self.denoise_network, geometry.rate_hz, geometry.block_samples)
