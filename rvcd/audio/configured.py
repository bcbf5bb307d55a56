"""Which audio device the settings mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rvcd.audio.device_supervisor import AudioDevice
from rvcd.audio.jack import JackDevice, JackRequest, Memory, pipewire_answers, server_answers
from rvcd.audio.microphone import SoundServer, microphone_name
from rvcd.audio.microphone_keeper import MicrophoneKeeper
from rvcd.config.settings import Settings
from rvcd.errors import RvcdError
from rvcd.instance import client_name
from rvcd.ipc.segment import AudioSegment

SERVERS_AS_ALSA = ("pulse", "pipewire")
"""Devices of ALSA behind which a sound server chooses the source."""
DEMO_SPEECH = Path(__file__).parents[1] / "data" / "demo_speech.flac"


def choose_backend(settings: Settings) -> tuple[str, str]:
    """Return ('jack', 'portaudio', 'server or card' or 'virtual', why). May take long: PortAudio looks for devices.

    'server or card': whichever is there at each attempt. Demo speech only where nothing is named and there is nothing at all.
    """
    audio = settings.audio
    if audio.backend != "auto":
        return audio.backend, "configured"
    if audio.host_api:
        return "jack" if "jack" in audio.host_api.lower() else "portaudio", f"host_api is {audio.host_api!r}"
    if server_answers():
        return "server or card", "a JACK or PipeWire server answers"
    named = [name for name in (audio.input, audio.output) if name and name.lower() != "default"]
    if named:
        return "server or card", f"{named[0]!r} is named"
    from rvcd.audio.portaudio_devices import list_devices

    try:
        devices = list_devices()
    except RvcdError as error:
        return "virtual", f"{error}; demo speech is played in place of a microphone"
    if any(d.max_input_channels for d in devices) and any(d.max_output_channels for d in devices):
        return "server or card", "a sound card is here"
    return "virtual", "no sound server and no sound card was found; demo speech is played in place of a microphone"


def microphone_keeper(settings: Settings, backend: str, instance: str = "") -> MicrophoneKeeper | None:
    """Return what keeps the microphone for other programs; None where the settings want none, or the voice goes elsewhere."""
    audio = settings.audio
    named_elsewhere = (audio.output or "default").lower() != "default"
    if backend == "virtual" or audio.virtual_microphone == "off" or named_elsewhere:
        return None
    name = microphone_name(audio.virtual_microphone, instance)
    default_input = (audio.input or "default").lower() in ("default", *SERVERS_AS_ALSA)
    return MicrophoneKeeper(name, wanted=audio.virtual_microphone != "auto", default_input=default_input)


def device_factory(
    settings: Settings,
    backend: str,
    segment: AudioSegment,
    memory: Memory | None = None,
    on_rate: Callable[[int], None] = lambda rate_hz: None,
    keeper: MicrophoneKeeper | None = None,
    name: str = "rvcd",
) -> Callable[[], AudioDevice]:
    """Return what opens the audio device anew, for the device supervisor.

    memory, on_rate: of a JACK client, see jack.JackDevice. keeper: makes the microphone before each opening. name: what the
    sound server knows this process by.
    """
    audio = settings.audio
    if backend == "virtual":
        from rvcd.audio.virtual import VirtualDevice, VirtualRequest

        source = str(DEMO_SPEECH) if audio.virtual.input == "demo" else audio.virtual.input
        virtual = VirtualRequest(
            input=source, loop=audio.virtual.loop, output=audio.virtual.output, realtime=audio.virtual.realtime,
            rate_hz=audio.rate_hz, period_samples=audio.period_samples,
        )  # fmt: skip
        return lambda: VirtualDevice(virtual, segment)
    from rvcd.audio.device import PortAudioDevice
    from rvcd.audio.portaudio import LIBRARY
    from rvcd.audio.portaudio_devices import DeviceRequest

    LIBRARY.jack_client_name = name
    if name != client_name(""):
        _call_streams(name)
    request = DeviceRequest(
        host_api=audio.host_api, input=audio.input or "default", output=audio.output or "default",
        rate_hz=audio.rate_hz, period_samples=audio.period_samples, input_channel=audio.input_channel,
    )  # fmt: skip
    jack = JackRequest(audio.input, audio.output, audio.input_channel, name, monitor=audio.monitor.device)
    kept = memory if memory is not None else Memory()

    def make() -> AudioDevice:
        target = keeper.prepare() if keeper is not None else None
        if backend == "jack" or (backend == "server or card" and server_answers()):
            # The keeper connects the output to the microphone: two of PipeWire's nodes may have one name, but not one id.
            is_kept = target is not None and target.server is SoundServer.PIPEWIRE and pipewire_answers()
            return JackDevice(replace(jack, output_is_kept=is_kept), segment, kept, on_rate)
        return PortAudioDevice(request, segment)

    return make


def _call_streams(name: str) -> None:
    """Have ALSA's plugins of PulseAudio and PipeWire call this process's streams by a name. They read these at each opening.

    Otherwise they are called after the program, and the server gives the volume, mute and device of one daemon to the others.
    """
    os.environ["PULSE_PROP_OVERRIDE_application.name"] = name  # noqa: SIM112  # PulseAudio's own spelling
    os.environ.setdefault("PIPEWIRE_ALSA", f'{{ application.name = "{name}" node.name = "{name}" }}')


def open_once(settings: Settings) -> None:
    """Open the device that the settings name, and close it again, without a sample through it. Raises AudioDeviceError."""
    with AudioSegment.create(settings.audio.rate_hz) as segment:
        device = device_factory(settings, "portaudio", segment, name=client_name(settings.instance))()
        try:
            device.open()
        finally:
            device.close()
