"""The audio device the daemon would open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rvcd.audio.files import FORMATS, AudioReader
from rvcd.audio.patchbay import SETTINGS
from rvcd.cli.checks.finding import Finding, Level
from rvcd.cli.checks.probes import Probes
from rvcd.config.settings import Settings
from rvcd.errors import ParamError, RvcdError

if TYPE_CHECKING:
    from rvcd.audio.portaudio_devices import DeviceInfo


def device_findings(settings: Settings, probes: Probes, *, daemon_runs: bool) -> list[Finding]:
    """Say which devices the daemon would open, or what keeps it from that.

    daemon_runs: one seems to run already: a device that cannot be opened may be its.
    """
    audio = settings.audio
    if audio.backend == "virtual":
        return _virtual(settings)
    if audio.backend == "jack" or (audio.backend == "auto" and (not audio.host_api or "jack" in audio.host_api.lower())):
        found = _jack(settings)
        if found or audio.backend == "jack":
            return found or [
                Finding(
                    Level.FAIL,
                    "device",
                    "no JACK or PipeWire server answers: rvcd would wait for one; start it, or set audio.backend",
                )
            ]
    try:
        devices = probes.list_devices()
        if audio.backend == "auto" and not _duplex(devices):
            return [Finding(Level.NOTE, "device", "there is no sound card: the virtual device would run"), *_virtual(settings)]
        findings = [*_devices(settings, devices)]
        if probes.open_device is not None and not any(finding.level is Level.FAIL for finding in findings):
            findings.append(_opened(settings, probes.open_device, daemon_runs))
        return findings
    except RvcdError as error:
        return [Finding(Level.FAIL, "device", f"{error}; audio.backend = 'virtual' runs without a sound card")]


def _opened(settings: Settings, open_device: Callable[[Settings], None], daemon_runs: bool) -> Finding:
    """Open the device as the daemon would, and close it."""
    try:
        open_device(settings)
    except RvcdError as error:
        if daemon_runs:
            return Finding(Level.NOTE, "device", f"cannot be opened now, while rvcd seems to run: {error}")
        return Finding(Level.FAIL, "device", f"{error}")
    return Finding(Level.OK, "device", "it opens")


def _jack(settings: Settings) -> list[Finding]:
    """Say what a client of the running JACK or PipeWire server would be connected to; nothing where none answers."""
    from rvcd.audio.jack import JackRequest, survey
    from rvcd.ipc.segment import AudioSegment

    audio = settings.audio
    with AudioSegment.create(audio.rate_hz) as segment:
        seen = survey(JackRequest(audio.input, audio.output, audio.input_channel, monitor=audio.monitor.device), segment)
    if seen is None:
        return []
    findings = []
    for kind, (ports, problem) in seen.sides.items():
        if problem:
            level = Level.NOTE if kind == "monitor" else Level.FAIL  # the main voice goes out without it
            findings.append(Finding(level, "device", problem))
        else:
            findings.append(Finding(Level.OK, "device", f"{SETTINGS[kind]}: {', '.join(ports) or 'none'}"))
    return [*findings, Finding(Level.OK, "device", f"{seen.server}: {seen.rate_hz} Hz, {seen.period_samples} samples a period")]


def _duplex(devices: Sequence[DeviceInfo]) -> bool:
    return any(device.max_input_channels for device in devices) and any(device.max_output_channels for device in devices)


def _devices(settings: Settings, devices: list[DeviceInfo]) -> Iterator[Finding]:
    """Choose as the daemon does. Raises AudioDeviceError when that fails."""
    from rvcd.audio.portaudio_devices import DeviceRequest, choose_devices

    audio = settings.audio
    names = (audio.input or "default", audio.output or "default")
    request = DeviceRequest(host_api=audio.host_api, input=names[0], output=names[1], input_channel=audio.input_channel)
    chosen = choose_devices(devices, (-1, -1), request)
    for kind, name, device in zip(("input", "output"), names, chosen, strict=True):
        if device is None or name.lower() == "default":
            yield Finding(Level.OK, "device", f"audio.{kind}: the system's default")
        else:
            yield Finding(Level.OK, "device", f"audio.{kind}: [{device.index}] {device.name} ({device.host_api})")
    yield from _monitor(settings, devices)
    source, wanted = chosen[0], audio.input_channel
    if source is not None and wanted > source.max_input_channels:
        yield Finding(
            Level.FAIL, "device",
            f"audio.input_channel is {wanted}, but {source.name} has {source.max_input_channels}; "
            f"choose 1..{source.max_input_channels}, or 0 for all of them",
        )  # fmt: skip
        return
    jack = next((device for device in chosen if device is not None and "JACK" in device.host_api), None)
    if jack is not None and jack.default_rate_hz != audio.rate_hz:
        yield Finding(
            Level.FAIL, "device",
            f"audio.rate_hz is {audio.rate_hz}, but the JACK server runs at {jack.default_rate_hz} Hz; use its rate",
        )  # fmt: skip
        return
    period = "the server's period" if jack is not None else f"{audio.period_samples} samples a period"
    yield Finding(Level.OK, "device", f"{audio.rate_hz} Hz, {period}")


def _monitor(settings: Settings, devices: list[DeviceInfo]) -> Iterator[Finding]:
    """Say which device the monitor would play on. The main voice goes out without it, so nothing here is a failure."""
    from rvcd.audio.portaudio_devices import DeviceRequest, choose_devices

    wanted = settings.audio.monitor.device
    if not wanted:
        return
    if wanted.lower() == "default":
        yield Finding(Level.OK, "device", "audio.monitor.device: the system's default")
        return
    try:
        _, device = choose_devices(devices, (-1, -1), DeviceRequest(settings.audio.host_api, "", wanted))
    except RvcdError as error:
        yield Finding(Level.NOTE, "device", f"audio.monitor.device: {error} (a sink of PulseAudio may be named too)")
        return
    assert device is not None  # it was named
    yield Finding(Level.OK, "device", f"audio.monitor.device: [{device.index}] {device.name} ({device.host_api})")


def _virtual(settings: Settings) -> list[Finding]:
    virtual = settings.audio.virtual
    source = {"demo": "rvcd's demo speech", "null": "silence"}.get(virtual.input, virtual.input)
    if Path(virtual.input).is_absolute() and not Path(virtual.input).is_file():
        return [Finding(Level.FAIL, "device", f"audio.virtual.input: {virtual.input} is no file")]
    try:
        _listen(settings)
    except RvcdError as error:
        return [Finding(Level.FAIL, "device", f"audio.virtual.input: {error}")]
    if virtual.output and Path(virtual.output).suffix.lower() not in FORMATS:
        return [Finding(Level.FAIL, "device", f"audio.virtual.output: {virtual.output} must end in one of {', '.join(FORMATS)}")]
    if virtual.output and not os.access(Path(virtual.output).parent, os.W_OK):
        folder = Path(virtual.output).parent
        return [
            Finding(
                Level.FAIL, "device", f"audio.virtual.output: the folder {folder} cannot be written; make it, or choose another"
            )
        ]
    loop = ", looped" if virtual.loop and not virtual.input.startswith(("null", "tone:")) else ""
    pace = "in real time" if virtual.realtime else "as fast as possible"
    found = [Finding(Level.OK, "device", f"virtual: {source}{loop}, {pace}, to {virtual.output or 'nowhere'}")]
    if settings.audio.monitor.device and not virtual.realtime:
        found.append(Finding(Level.NOTE, "device", "audio.monitor.device: no monitor plays with audio.virtual.realtime = false"))
    return found


def _listen(settings: Settings) -> None:
    """Raises RvcdError when the virtual device could not play its input."""
    source = settings.audio.virtual.input
    if source.startswith("tone:") and float(source[5:]) >= settings.audio.rate_hz / 2:
        raise ParamError(f"{source} needs an audio.rate_hz of more than twice that")
    if Path(source).is_absolute():
        AudioReader(source).close()
