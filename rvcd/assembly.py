"""What the settings mean: the stream's sizes, the voices there are, what the worker is told, which device is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rvcd.audio.guard import AudioDevice
from rvcd.audio.ring import AudioSegment
from rvcd.config import BUILT_IN, LATENCY_PRESETS, TEST_WEIGHTS, Settings
from rvcd.errors import RvcdError
from rvcd.folders import cache_folder
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.models.builtin_paths import BUILT_IN_ENCODER, BUILT_IN_FOLDER
from rvcd.models.registry import VoiceEntry, VoiceRegistry, voice_of_file
from rvcd.models.test_weight_paths import VOICE_V1, VOICE_V2, TestWeightPaths
from rvcd.models.voice_identity import identity_of

DEMO_SPEECH = Path(__file__).parent / "data" / "demo_speech.flac"


def geometry_of(settings: Settings, preset: str = "") -> StreamGeometry:
    """Return the stream's sizes. Raises ParamError for a combination the engine cannot do.

    preset: chosen live instead of the configured one; the configuration's overrides belong to its own preset only.
    """
    live = preset and preset != settings.latency.preset
    budget = LATENCY_PRESETS[preset] if live else settings.latency.budget()
    return StreamGeometry.from_ms(
        rate_hz=settings.audio.rate_hz,
        block_ms=budget.block_ms,
        lookahead_ms=budget.lookahead_ms,
        deadline_ms=budget.deadline_ms,
        context_ms=budget.context_ms,
    )


def scan_voices(settings: Settings) -> VoiceRegistry:
    """Return the voices of the configured folders; while no file of a content encoder is configured, only rvcd's own.

    A voice wants the units of the encoder it was made with: others' voices, the built-in and the test voices never go together.
    """
    if settings.models.real_encoder:
        return VoiceRegistry.scan(settings.voices.folders)
    if settings.models.content_encoder == BUILT_IN:
        return VoiceRegistry.scan([BUILT_IN_FOLDER])
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
        entry = voice_of_file(Path(chosen)) if chosen.endswith(".pth") else registry.find(chosen)
        return replace(entry, index_path=Path(settings.voices.index)) if settings.voices.index else entry
    return registry.entries[0] if registry.entries else None


def named_voice(settings: Settings, voice: str, index: str) -> VoiceEntry | None:
    """Return what a command line names: a .pth file, a voice of the folders, or ("") the configured one; None if there is none.

    index: replaces the voice's own. Raises RvcdError for a name that no voice has.
    """
    if voice.endswith(".pth"):
        found: VoiceEntry | None = voice_of_file(Path(voice))
    else:
        registry = scan_voices(settings)
        found = registry.find(voice) if voice else first_voice(settings, registry, "")
    return replace(found, index_path=Path(index)) if found is not None and index else found


def voice_files(entry: VoiceEntry) -> VoiceFiles:
    """Return what the worker is told to load. Looks at the files: they may be on a disk that takes its time."""
    return VoiceFiles(entry.name, str(entry.path), str(entry.index_path or ""), entry.gain_db, identity_of(entry))


def model_setup(settings: Settings) -> ModelSetup:
    """Return which models are loaded, and how they are computed with."""
    tested = settings.models.content_encoder == TEST_WEIGHTS
    return ModelSetup(
        encoder="" if tested else settings.models.real_encoder or str(BUILT_IN_ENCODER),
        rmvpe=settings.models.rmvpe,
        fill_unvoiced=settings.engine.unvoiced == "interpolate",
        device=settings.engine.device,
        precision=settings.engine.precision,
        threads=settings.engine.threads,
        seed=settings.engine.seed,
        test_weights_cache=str(cache_folder()) if tested else "",
        keep_loaded=settings.voices.keep_loaded,
    )


def choose_backend(settings: Settings) -> tuple[str, str]:
    """Return ('portaudio' or 'virtual', why). May take long: PortAudio looks for devices."""
    if settings.audio.backend != "auto":
        return settings.audio.backend, "configured"
    from rvcd.audio.device import list_devices

    try:
        devices = list_devices()
    except RvcdError as error:
        return "virtual", str(error)
    if any(d.max_input_channels for d in devices) and any(d.max_output_channels for d in devices):
        return "portaudio", "a sound card is here"
    return "virtual", "no sound card with input and output was found"


def device_factory(settings: Settings, backend: str, segment: AudioSegment) -> Callable[[], AudioDevice]:
    """Return what opens the audio device anew, for the guard."""
    audio = settings.audio
    if backend == "virtual":
        from rvcd.audio.virtual import VirtualDevice, VirtualRequest

        source = str(DEMO_SPEECH) if audio.virtual.input == "demo" else audio.virtual.input
        virtual = VirtualRequest(
            input=source, loop=audio.virtual.loop, output=audio.virtual.output, realtime=audio.virtual.realtime,
            rate_hz=audio.rate_hz, period_samples=audio.period_samples,
        )  # fmt: skip
        return lambda: VirtualDevice(virtual, segment)
    from rvcd.audio.device import DeviceRequest, PortAudioDevice

    request = DeviceRequest(
        host_api=audio.host_api, input=audio.input or "default", output=audio.output or "default",
        rate_hz=audio.rate_hz, period_samples=audio.period_samples, input_channel=audio.input_channel,
    )  # fmt: skip
    return lambda: PortAudioDevice(request, segment)
