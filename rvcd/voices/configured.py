"""What the settings mean for voices and models: which voices there are, and what the worker is told of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rvcd.config.folders import cache_folder
from rvcd.config.settings import BUILT_IN, TEST_WEIGHTS, Settings
from rvcd.formats.contentvec_header import weights_of
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.protocol import names_voice_file
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER, BUILT_IN_FOLDER
from rvcd.voices.encoders import encoder_of, has_encoders
from rvcd.voices.identity import identity_of
from rvcd.voices.registry import VoiceEntry, VoiceRegistry, voice_of_file
from rvcd.voices.test_weight_paths import VOICE_V1, VOICE_V2, TestWeightPaths


def scan_voices(settings: Settings) -> VoiceRegistry:
    """Return the voices of the configured folders and behind them the built-in one; without an encoder for the former, only that.

    The test voices stay among themselves.
    """
    if settings.models.content_encoder != TEST_WEIGHTS:
        own = VoiceRegistry.scan([BUILT_IN_FOLDER])
        if settings.models.content_encoder == BUILT_IN or not has_encoders(settings):
            return own
        return VoiceRegistry.scan(settings.voices.folders).joined_by(own)
    paths = TestWeightPaths.below(cache_folder())
    # Named here, because the worker may not have written them yet.
    entries = (VoiceEntry(1, VOICE_V2, paths.voice_v2, paths.index_v2), VoiceEntry(2, VOICE_V1, paths.voice_v1, None))
    return VoiceRegistry((paths.folder,), entries)


def first_voice(settings: Settings, registry: VoiceRegistry, resumed: str) -> VoiceEntry | None:
    """Return the voice to start with: the one of the last run, else the configured one, else the first; None if there is none."""
    chosen = settings.voices.voice
    if resumed and any(entry.name == resumed for entry in registry.entries):
        return registry.find(resumed)
    if chosen:
        entry = voice_of_file(Path(chosen)) if names_voice_file(chosen) else registry.find(chosen)
        return replace(entry, index_path=Path(settings.voices.index)) if settings.voices.index else entry
    return registry.entries[0] if registry.entries else None


def named_voice(settings: Settings, voice: str, index: str) -> VoiceEntry | None:
    """Return what a command line names: a .pth file, a voice of the folders, or ("") the configured one; None if there is none.

    index: replaces the voice's own. Raises RvcdError for a name that no voice has.
    """
    if names_voice_file(voice):
        found: VoiceEntry | None = voice_of_file(Path(voice))
    else:
        registry = scan_voices(settings)
        found = registry.find(voice) if voice else first_voice(settings, registry, "")
    return replace(found, index_path=Path(index)) if found is not None and index else found


def voice_files(settings: Settings, entry: VoiceEntry) -> VoiceFiles:
    """Return what the worker is told to load. Looks at the files: they may be on a disk that takes its time."""
    encoder = encoder_of(settings, entry)
    identity = identity_of(entry, weights_of(Path(encoder.path)) if encoder.path else None)
    return VoiceFiles(
        entry.name, str(entry.path), str(entry.index_path or ""), entry.gain_db, identity, encoder.path,
        f"{entry.path}: {encoder.problem}" if encoder.problem else "",
        entry.f0_median_hz,
    )  # fmt: skip


def model_setup(settings: Settings) -> ModelSetup:
    """Return which models are loaded, and how they are computed with."""
    tested = settings.models.content_encoder == TEST_WEIGHTS
    return ModelSetup(
        encoder="" if tested else settings.models.real_encoder or str(BUILT_IN_ENCODER),
        rmvpe=settings.models.rmvpe_file,
        fill_unvoiced=settings.engine.unvoiced == "interpolate",
        device=settings.engine.device,
        precision=settings.engine.precision,
        cuda_graphs=settings.engine.cuda_graphs,
        keep_warm=settings.engine.keep_warm,
        context=settings.engine.context,
        threads=settings.engine.threads,
        seed=settings.engine.seed,
        a4_hz=settings.engine.autotune_a4_hz,
        test_weights_cache=str(cache_folder()) if tested else "",
        ways_file=str(cache_folder() / "convolutions.json"),
        keep_loaded=settings.voices.keep_loaded,
    )
