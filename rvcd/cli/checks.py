"""`rvcd check`: what would happen if the daemon started with these settings, found out without starting it and without torch."""

from __future__ import annotations

import enum
import errno
import importlib.util
import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rvcd.audio.files import FORMATS, AudioReader
from rvcd.audio.scheduling import LIMITS_ADVICE, WORKER_NICE, try_out
from rvcd.config.folders import cache_folder
from rvcd.config.settings import BUILT_IN, DEFAULT_CONFIG, TEST_WEIGHTS, Settings
from rvcd.config.sizes import geometry_of
from rvcd.daemon.presets import presets_path, read_presets
from rvcd.daemon.state import SavedState, read_state, state_path
from rvcd.errors import ParamError, RvcdError, how_to_install
from rvcd.formats.index_header import read_index_header
from rvcd.geometry import SYNTHESIS_TAIL_MS
from rvcd.ipc.segment import AudioSegment
from rvcd.voices.assets import AssetStatus, Match, examine
from rvcd.voices.test_weight_paths import TestWeightPaths

if TYPE_CHECKING:
    from rvcd.audio.device import DeviceInfo
    from rvcd.voices.registry import VoiceEntry

OPTIONAL_METHODS = {"fcpe": "torchfcpe", "pm": "parselmouth"}
"""Pitch methods that need an extra of the same name, and the module it installs."""
PUBLISHED_UNIT_WIDTHS = (256, 768)
"""What voices trained by RVC v1 and v2 take; the test weights' units are narrower."""


class Level(str, enum.Enum):
    """How much a finding matters. FAIL: the daemon would not start, or would stay silent."""

    OK = "ok"
    NOTE = "note"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    topic: str
    text: str


class VoiceLike(Protocol):
    """What the check needs to know about a voice file (rvcd.formats.voice_header reads it)."""

    @property
    def version(self) -> str: ...
    @property
    def rate_hz(self) -> int: ...
    @property
    def unit_width(self) -> int: ...


@dataclass(frozen=True)
class Probes:
    """How the check looks at the machine; tests put fakes here.

    first_voice: given the name to resume ("" for none), the voice the daemon would start with, None for none.
    """

    list_devices: Callable[[], list[DeviceInfo]]
    first_voice: Callable[[Settings, str], VoiceEntry | None]
    read_voice: Callable[[Path], VoiceLike]


def run_checks(settings: Settings, probes: Probes) -> list[Finding]:
    """Return every finding, in the order in which the daemon would meet them. Raises nothing a user can cause."""
    state, saved = _state()
    return [
        _config(settings),
        *_audio(settings, probes),
        _latency(settings, saved.latency_preset),
        *_models(settings),
        _pitch_method(settings),
        _voice(settings, probes, saved.voice),
        _osc(settings),
        state,
        *_presets(),
        *_talk(settings),
        *_realtime(settings),
    ]


def _config(settings: Settings) -> Finding:
    built_in = settings.source == DEFAULT_CONFIG
    return Finding(Level.OK, "config", f"{settings.source} is valid" + (" (the built-in default: none is yours yet)" * built_in))


def _audio(settings: Settings, probes: Probes) -> list[Finding]:
    audio = settings.audio
    if audio.backend == "virtual":
        return _virtual(settings)
    try:
        devices = probes.list_devices()
        if audio.backend == "auto" and not _duplex(devices):
            return [Finding(Level.NOTE, "device", "there is no sound card: the virtual device would run"), *_virtual(settings)]
        return [*_devices(settings, devices)]
    except RvcdError as error:
        return [Finding(Level.FAIL, "device", f"{error}; audio.backend = 'virtual' runs without a sound card")]


def _duplex(devices: Sequence[DeviceInfo]) -> bool:
    return any(device.max_input_channels for device in devices) and any(device.max_output_channels for device in devices)


def _devices(settings: Settings, devices: list[DeviceInfo]) -> Iterator[Finding]:
    """Choose as the daemon does. Raises AudioDeviceError when that fails."""
    from rvcd.audio.device import DeviceRequest, choose_devices

    audio = settings.audio
    names = (audio.input or "default", audio.output or "default")
    request = DeviceRequest(host_api=audio.host_api, input=names[0], output=names[1], input_channel=audio.input_channel)
    chosen = choose_devices(devices, (-1, -1), request)
    for kind, name, device in zip(("input", "output"), names, chosen, strict=True):
        if device is None or name.lower() == "default":
            yield Finding(Level.OK, "device", f"audio.{kind}: the system's default")
        else:
            yield Finding(Level.OK, "device", f"audio.{kind}: [{device.index}] {device.name} ({device.host_api})")
    jack = next((device for device in chosen if device is not None and "JACK" in device.host_api), None)
    if jack is not None and jack.default_rate_hz != audio.rate_hz:
        yield Finding(
            Level.FAIL, "device",
            f"audio.rate_hz is {audio.rate_hz}, but the JACK server runs at {jack.default_rate_hz} Hz; use its rate",
        )  # fmt: skip
        return
    period = "the server's period" if jack is not None else f"{audio.period_samples} samples a period"
    yield Finding(Level.OK, "device", f"{audio.rate_hz} Hz, {period}")


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
    return [Finding(Level.OK, "device", f"virtual: {source}{loop}, {pace}, to {virtual.output or 'nowhere'}")]


def _listen(settings: Settings) -> None:
    """Raises RvcdError when the virtual device could not play its input."""
    source = settings.audio.virtual.input
    if source.startswith("tone:") and float(source[5:]) >= settings.audio.rate_hz / 2:
        raise ParamError(f"{source} needs an audio.rate_hz of more than twice that")
    if Path(source).is_absolute():
        AudioReader(source).close()


def _latency(settings: Settings, resumed: str) -> Finding:
    try:
        geometry = geometry_of(settings, resumed)
    except RvcdError as error:
        return Finding(Level.FAIL, "latency", str(error))
    budget = settings.latency.budget()
    period_ms = geometry.ms(settings.audio.period_samples)
    return Finding(
        Level.OK,
        "latency",
        f"{geometry.ms(geometry.latency_samples):.0f} ms + the device's buffers (a period is {period_ms:.1f} ms):"
        f" block {budget.block_ms} + lookahead {budget.lookahead_ms} + synthesis {SYNTHESIS_TAIL_MS:.0f}"
        f" + deadline {budget.deadline_ms}",
    )


def _models(settings: Settings) -> list[Finding]:
    findings = []
    for key in ("content_encoder", "rmvpe"):
        if key == "rmvpe" and settings.engine.f0_method != "rmvpe" and not settings.models.rmvpe:
            continue
        try:
            configured = settings.models.real_encoder if key == "content_encoder" else settings.models.rmvpe
            status = examine(key, configured, getattr(settings.models.sha256, key))
        except RvcdError as error:
            findings.append(Finding(Level.FAIL, "models", f"models.{key}: {error}"))
        else:
            findings.append(_model(settings, status))
    return findings


def _model(settings: Settings, status: AssetStatus) -> Finding:
    name = f"models.{status.key}"
    if status.match is Match.BUILT_IN:
        if status.key == "rmvpe":
            return Finding(
                Level.FAIL, "models", f"{name} is empty, but engine.f0_method = 'rmvpe' needs it; `rvcd assets` names the file"
            )
        if settings.models.content_encoder == BUILT_IN:
            preview = "the built-in voice's, a preview that loses many words"
            return Finding(Level.NOTE, "models", f"{name}: {preview}; `rvcd assets` names the one for RVC voices")
        return Finding(
            Level.NOTE, "models", f"{name}: test weights, no word can be understood; `rvcd assets` names the real file"
        )
    if status.match is Match.MISSING:
        return Finding(Level.FAIL, "models", f"{name}: {status.path} does not exist; `rvcd assets` names the file to download")
    if status.match is Match.MISMATCH:
        expected = getattr(settings.models.sha256, status.key)
        return Finding(
            Level.FAIL, "models", f"{name}: {status.path} has SHA-256 {status.sha256}, not {expected}; download it again"
        )
    known = f" = {status.asset.name}" if status.asset else ""
    level = Level.OK if status.match is Match.VERIFIED else Level.NOTE
    return Finding(
        level,
        "models",
        f"{name}: {status.path}{known}: {status.match.value}, {status.size_bytes:,} bytes, SHA-256 {status.sha256[:16]}…",
    )


def _pitch_method(settings: Settings) -> Finding:
    method = settings.engine.f0_method
    module = OPTIONAL_METHODS.get(method)
    if module is not None and importlib.util.find_spec(module) is None:
        return Finding(Level.FAIL, "pitch", f"engine.f0_method = '{method}' needs an extra: {how_to_install(method)}")
    return Finding(Level.OK, "pitch", f"method {method}")


def _voice(settings: Settings, probes: Probes, resumed: str) -> Finding:
    try:
        entry = probes.first_voice(settings, resumed)
        if entry is None:
            folders = ", ".join(settings.voices.folders) or "any folder: voices.folders is empty"
            advice = "put one there, or set voices.voice; an empty models.content_encoder takes the built-in voice"
            return Finding(Level.FAIL, "voice", f"there is no voice (*.pth) in {folders}; {advice}")
        tested = settings.models.content_encoder == TEST_WEIGHTS
        if tested and TestWeightPaths.below(cache_folder()).folder in entry.path.parents:
            return Finding(Level.NOTE, "voice", f"{entry.name}: a test voice, which buzzes and speaks no words")
        voice = probes.read_voice(entry.path)
    except RvcdError as error:
        return Finding(Level.FAIL, "voice", str(error))
    if entry.index_path is not None and not entry.index_path.is_file():
        return Finding(Level.FAIL, "voice", f"voices.index: {entry.index_path} does not exist; set it to '' to run without")
    try:
        index_width = read_index_header(str(entry.index_path)).width if entry.index_path is not None else voice.unit_width
    except RvcdError as error:
        return Finding(Level.FAIL, "voice", str(error))
    if index_width != voice.unit_width:
        return Finding(
            Level.FAIL, "voice",
            f"{entry.index_path} is an index of width {index_width}, but {entry.name}'s units have width {voice.unit_width}",
        )  # fmt: skip
    if not settings.models.real_encoder and voice.unit_width in PUBLISHED_UNIT_WIDTHS:
        return Finding(
            Level.FAIL,
            "voice",
            f"{entry.path} needs a real content encoder: set models.content_encoder (`rvcd assets` names the file to download)",
        )
    index = f", index {entry.index_path.name}" if entry.index_path is not None else ", no index"
    text = f"{entry.name}: {voice.version}, {voice.rate_hz} Hz, {voice.unit_width}-wide units{index} ({entry.path})"
    return Finding(Level.OK, "voice", text)


def _osc(settings: Settings) -> Finding:
    osc = settings.osc
    host = "127.0.0.1" if osc.host == "localhost" else osc.host
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, osc.port))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = {
            errno.EADDRINUSE: "is rvcd running already, or set osc.port",
            errno.EADDRNOTAVAIL: "set osc.host to an address of this machine",
            errno.EACCES: "set osc.port to 1024 or more",
        }.get(error.errno or 0, "set osc.host or osc.port")
        return Finding(Level.FAIL, "osc", f"UDP {osc.host}:{osc.port} cannot be opened ({reason}); {hint}")
    clients = f"; networks: {', '.join(osc.allow)}" if osc.allow else ""
    return Finding(Level.OK, "osc", f"would listen on UDP {osc.host}:{osc.port}{clients}")


def _state() -> tuple[Finding, SavedState]:
    """Look at the state file without touching it: a broken one is the daemon's to set aside."""
    path = state_path()
    try:
        saved = read_state(path)
    except FileNotFoundError:
        saved = SavedState()
    except (OSError, ValueError) as error:
        return Finding(
            Level.NOTE, "state", f"{path} cannot be resumed, it would start from the configuration: {error}"
        ), SavedState()
    folder = next((parent for parent in path.parents if parent.exists()), Path("/"))
    if not os.access(folder, os.W_OK):
        return Finding(Level.NOTE, "state", f"{path} cannot be written: the next start would not resume anything"), saved
    latched = [name for name, on in (("mute", saved.mute), ("panic", saved.panic)) if on]
    if latched:
        return Finding(
            Level.NOTE, "state", f"{path}: would resume with {' and '.join(latched)} on: silent until that is cleared"
        ), saved
    return Finding(Level.OK, "state", f"voice, parameters, mute and panic are kept in {path}"), saved


def _presets() -> list[Finding]:
    """Look at the presets' file without touching it."""
    path = presets_path(state_path())
    try:
        names = read_presets(path).names
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        return [Finding(Level.NOTE, "presets", f"{path} cannot be used and would be set aside: {error}")]
    return [Finding(Level.OK, "presets", f"{len(names)} in {path}: {', '.join(names)[:200]}")] if names else []


def _talk(settings: Settings) -> list[Finding]:
    meanings = {
        "push-to-talk": "silent until a client sends /rvc/talk 1",
        "push-to-convert": "your OWN voice goes out until a client sends /rvc/talk 1",
    }
    meaning = meanings.get(settings.talk.mode)
    return [Finding(Level.NOTE, "talk", f"talk.mode = '{settings.talk.mode}': {meaning}")] if meaning else []


def _realtime(settings: Settings) -> list[Finding]:
    """Try out what the daemon asks of the kernel: a thread's real-time class, locked memory, the worker's niceness."""
    audio = settings.audio
    if audio.backend == "virtual" and not audio.virtual.realtime:
        return []
    grants = try_out()
    with AudioSegment.create(audio.rate_hz) as segment:
        memory_problem = segment.lock_memory()
    findings = [Finding(Level.NOTE, "realtime", problem) for problem in (grants.device.problem, memory_problem) if problem]
    if grants.worker_nice > WORKER_NICE:
        nice = f"the worker would run at nice {grants.worker_nice}, not {WORKER_NICE}: the limit NICE is {_lowest_nice()}"
        findings.append(Finding(Level.NOTE, "realtime", f"{nice}; {LIMITS_ADVICE}"))
    got = f"a device thread of this user gets {grants.device.scheduling}, unless a sound server gives it a class of its own"
    level = Level.NOTE if grants.device.problem else Level.OK
    return [Finding(level, "realtime", f"{got}; limits: {_limits()}"), *findings]


def _limits() -> str:
    """Return the limits that matter, as `ulimit` counts them."""
    priority, memory_bytes = (resource.getrlimit(which)[0] for which in (resource.RLIMIT_RTPRIO, resource.RLIMIT_MEMLOCK))
    unlimited = "unlimited"
    memory = unlimited if memory_bytes == resource.RLIM_INFINITY else f"{memory_bytes // 1024} kB"
    return f"RTPRIO {unlimited if priority == resource.RLIM_INFINITY else priority}, MEMLOCK {memory}, NICE {_lowest_nice()}"


def _lowest_nice() -> int:
    """Return the lowest niceness that the limit allows; the kernel counts it as 20 minus that."""
    limit = resource.getrlimit(resource.RLIMIT_NICE)[0]
    return -20 if limit == resource.RLIM_INFINITY else max(-20, 20 - limit)
