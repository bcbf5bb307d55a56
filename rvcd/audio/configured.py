"""Which audio device the settings mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rvcd.audio.device_supervisor import AudioDevice
from rvcd.config.settings import Settings
from rvcd.errors import RvcdError
from rvcd.ipc.segment import AudioSegment

DEMO_SPEECH = Path(__file__).parents[1] / "data" / "demo_speech.flac"


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
    """Return what opens the audio device anew, for the device supervisor."""
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


def open_once(settings: Settings) -> None:
    """Open the device that the settings name, and close it again, without a sample through it. Raises AudioDeviceError."""
    with AudioSegment.create(settings.audio.rate_hz) as segment:
        device = device_factory(settings, "portaudio", segment)()
        try:
            device.open()
        finally:
            device.close()
