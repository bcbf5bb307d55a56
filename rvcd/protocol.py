"""What travels between rvcd and its clients: OSC addresses, the order of telemetry values, states. Stdlib only."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from rvcd.errors import ProtocolError

PREFIX = "/rvc"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9720
PROTOCOL_VERSION = 2
SUBSCRIPTION_LEASE_S = 10.0
MAX_SUBSCRIPTIONS = 8
SILENCE_DBFS = -120.0
"""Meters never show less than this; it stands for digital silence."""

ON_FROM = 0.5
"""A switch that comes as a number is on from here: tablets send only floats."""
STATUS_SWITCHES: tuple[str, ...] = ("/bypass", "/mute", "/record", "/talk")
"""Those that /status tells, in its order."""
SWITCH_ADDRESSES: tuple[str, ...] = (*STATUS_SWITCHES, "/monitor/mute")
MONITOR_SOURCES: tuple[str, ...] = ("converted", "microphone")
PITCH_MANUAL, PITCH_AUTO = "manual", "auto"
PITCH_MODES: tuple[str, ...] = (PITCH_MANUAL, PITCH_AUTO)
"""auto: the speaker's median is brought to the voice's register, and `pitch` is added to that."""
"""What the monitor gives: what goes out, or the user's own voice."""
GROUPS: tuple[str, ...] = ("params", "meters", "stats", "log")
"""What a subscriber may ask for."""
DEFAULT_GROUPS: tuple[str, ...] = ("params", "meters", "stats")
"""What a subscriber gets that names none."""
F0_METHODS: tuple[str, ...] = ("swift", "rmvpe", "fcpe", "harvest", "dio", "pm", "yin")
PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16", "fp16")
CUDA_GRAPHS: tuple[str, ...] = ("auto", "off")
CONTEXTS: tuple[str, ...] = ("remembered", "window")
"""How the content encoder sees the past: by what it remembers, or by going over a window again for each block."""
LATENCY_PRESET_NAMES: tuple[str, ...] = ("low", "balanced", "safe")
TALK_MODES: tuple[str, ...] = ("off", "push-to-talk", "push-to-convert")
"""What /talk does: nothing, let the voice out while it is held, or convert it while it is held (raw otherwise)."""
SUPERSEDED = "superseded by a newer request"
"""The reason of a /fail that nobody has to act on: a newer request of the same kind came before this one held."""
NAME_PATTERN = r"[\w .-]{1,64}"
"""Names of voices and presets (a regular expression for all of the name)."""
NAME_RULE = "1 to 64 letters, digits, spaces, dots, dashes or underscores"
VOICE_SUFFIX = ".pth"
VOICE_SUFFIXES = (VOICE_SUFFIX, ".pt", ".safetensors")
"""What a voice's file may end in. Other models end in the last two as well: what such a file is, its header says."""


def names_voice_file(text: str) -> bool:
    """Say whether a text names a voice by its file, not by the voice's name."""
    return text.lower().endswith(VOICE_SUFFIXES)


def switch_name(address: str) -> str:
    """Return the name of a switch of SWITCH_ADDRESSES, as Stats and scripts have it: 'monitor_mute'."""
    return address.lstrip("/").replace("/", "_")


class MonitorState(str, enum.Enum):
    """What becomes of the monitor."""

    OFF = "off"
    """audio.monitor.device is empty."""
    WAITING = "waiting"
    """Its device is not there, or not yet; Stats.monitor_problem says why."""
    OPEN = "open"


class State(str, enum.Enum):
    """What the daemon is doing, as its user sees it. The first that applies, in this order of precedence."""

    PANIC = "panic"
    NO_DEVICE = "no-device"
    STARTING = "starting"
    RECOVERING = "recovering"
    MUTED = "muted"
    STANDBY = "standby"
    """Push-to-talk, and /talk is not held."""
    BYPASS = "bypass"
    NO_VOICE = "no-voice"
    NO_INPUT = "no-input"
    """It would be live, but nothing except digital silence has come from the microphone for some seconds."""
    OVERLOADED = "overloaded"
    """It would be live, but nothing audible gets through: the blocks come too late. A faster machine or a safer latency helps."""
    LIVE = "live"


@dataclass(frozen=True)
class Stats:
    """Everything rvcctl shows, sent as the arguments of one /rvc/stats message in this order.

    Levels are dBFS peaks since the last push (>= SILENCE_DBFS). Milliseconds, hertz, counts since the daemon started.
    preset: the parameter preset recalled last, "" when a parameter has moved since. loading: the voice that is being loaded, "".
    speaker: 0..speakers - 1. gpu_util: 0..1, below 0 without a GPU. record_s: seconds recorded.
    callback_gap_max_ms: longest time between two callbacks of the device, of the last minute. synthesis_ms: without retrieval_ms.
    late_samples, in late_events runs: played as silence because nothing was there. gap_samples: of the output, never written.
    overflow_samples: of the output, for which the ring had no room. bad_input_samples, bad_output_samples: not a finite number,
    from the device and from the worker, taken as 0. skipped_blocks: not computed, because their time was over.
    scheduling: of the device's thread as the kernel tells it, "FIFO 60", "OTHER", "" unknown. fault: one sentence, why what is
    wanted does not run, "" when it does. advice: one sentence, what makes blocks late and what would help, "" when few are.
    clock_...: where input and output are two devices (all 0 where they have one clock): input samples for each output sample, how
    much faster the input's clock runs, what the ring between them holds, runs of input that came too late, jumps over lost input;
    the two counts are of the present stream.
    stale_samples: of the microphone, dropped so that the latency holds. absent_samples: of it, not there in time, taken as 0.
    hint: one sentence, what is amiss around rvcd: a dead microphone, or one that hears what rvcd plays; "" when nothing is.
    monitor_state: one of MonitorState. monitor_source: one of MONITOR_SOURCES. monitor_peak_dbfs: as the levels above, of what
    the monitor gives. monitor_underruns: times that it had nothing to give. monitor_problem: what is wrong with it, "" nothing.
    latency_denoise_ms: of a loaded denoiser (engine.denoiser), 0.0 without one.
    pitch_mode: one of PITCH_MODES. pitch_auto: semitones that auto adds to `pitch`. register_hz: the live voice's, 0.0 unknown:
    then auto adds nothing.
    latency_offset_ms: audio.latency_offset_ms as it is contained in latency_device_out_ms or latency_device_in_ms.
    f0_hz is 0.0 when the newest frame is unvoiced (a wire format's convention: inside the daemon voicing is a boolean).
    """

    state: str = State.STARTING.value
    voice: str = ""
    voice_slot: int = 0
    f0_method: str = ""
    bypass: int = 0
    mute: int = 0
    panic: int = 0
    in_peak_dbfs: float = SILENCE_DBFS
    out_peak_dbfs: float = SILENCE_DBFS
    in_clips: int = 0
    out_clips: int = 0
    f0_hz: float = 0.0
    latency_total_ms: float = 0.0
    latency_device_in_ms: float = 0.0
    latency_block_ms: float = 0.0
    latency_lookahead_ms: float = 0.0
    latency_deadline_ms: float = 0.0
    latency_device_out_ms: float = 0.0
    ring_fill: float = 0.0
    load: float = 0.0
    load_p95: float = 0.0
    blocks: int = 0
    late_blocks: int = 0
    expired_samples: int = 0
    failed_blocks: int = 0
    input_xruns: int = 0
    output_xruns: int = 0
    worker_restarts: int = 0
    callback_gap_max_ms: float = 0.0
    encode_ms: float = 0.0
    pitch_ms: float = 0.0
    synthesis_ms: float = 0.0
    rate_hz: int = 0
    device: str = ""
    uptime_s: float = 0.0
    record: int = 0
    record_s: float = 0.0
    talk: int = 0
    talk_mode: str = "off"
    speaker: int = 0
    speakers: int = 1
    latency_preset: str = ""
    preset: str = ""
    loading: str = ""
    gpu_util: float = -1.0
    gpu_memory_mb: float = 0.0
    gpu_memory_total_mb: float = 0.0
    # New fields go to the end: older clients ignore them, and an older daemon does not send them.
    late_samples: int = 0
    late_events: int = 0
    gap_samples: int = 0
    overflow_samples: int = 0
    bad_input_samples: int = 0
    bad_output_samples: int = 0
    skipped_blocks: int = 0
    retrieval_ms: float = 0.0
    scheduling: str = ""
    fault: str = ""
    advice: str = ""
    clock_ratio: float = 0.0
    clock_drift_ppm: float = 0.0
    clock_fill_ms: float = 0.0
    clock_starved: int = 0
    clock_recentred: int = 0
    stale_samples: int = 0
    absent_samples: int = 0
    latency_offset_ms: float = 0.0
    hint: str = ""
    monitor_state: str = MonitorState.OFF.value
    monitor_source: str = MONITOR_SOURCES[0]
    monitor_mute: int = 0
    monitor_peak_dbfs: float = SILENCE_DBFS
    monitor_underruns: int = 0
    monitor_problem: str = ""
    latency_denoise_ms: float = 0.0
    pitch_mode: str = PITCH_MANUAL
    pitch_auto: int = 0
    register_hz: float = 0.0


ALWAYS_SENT = [field.name for field in fields(Stats)].index("late_samples")
"""How many fields every daemon of this PROTOCOL_VERSION sends; those after them have a default."""


def stats_to_args(stats: Stats) -> tuple[str | int | float, ...]:
    """Return the arguments of one /rvc/stats message: str, int or float by the type of each field of Stats."""
    return tuple(_CASTS[str(field.type)](getattr(stats, field.name)) for field in fields(Stats))


def stats_from_args(args: Sequence[object]) -> Stats:
    """Inverse of stats_to_args. What a newer daemon sends after the known fields is ignored; what an older one lacks is default.

    Raises ProtocolError when fewer than ALWAYS_SENT arguments came, or one is not of its field's type.
    """
    known = fields(Stats)
    if len(args) < ALWAYS_SENT:
        raise ProtocolError(f"/rvc/stats has {len(args)} values, {ALWAYS_SENT} are needed; is the daemon of another version?")
    values: dict[str, str | int | float] = {}
    for field, arg in zip(known, args, strict=False):
        is_text = field.type == "str"
        if not isinstance(arg, str if is_text else (int, float)):
            raise ProtocolError(f"/rvc/stats value '{field.name}' is {arg!r} where {'text' if is_text else 'a number'} is needed")
        try:
            values[field.name] = _CASTS[str(field.type)](arg)
        except (ValueError, OverflowError):  # int() of NaN or infinity
            raise ProtocolError(f"/rvc/stats value '{field.name}' is {arg!r} where a finite number is needed") from None
    return Stats(**values)  # type: ignore[arg-type]


_CASTS: dict[str, type[str] | type[int] | type[float]] = {"str": str, "int": int, "float": float}

NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def note_of(f0_hz: float) -> tuple[str, float]:
    """Return (note name with octave, cents -50..50) of a frequency; ("-", 0.0) when f0_hz <= 0. A4 = 440 Hz, MIDI 69."""
    if not f0_hz > 0 or not math.isfinite(f0_hz):
        return "-", 0.0
    midi = 69.0 + 12.0 * math.log2(f0_hz / 440.0)
    nearest = round(midi)
    return f"{NOTE_NAMES[nearest % 12]}{nearest // 12 - 1}", 100.0 * (midi - nearest)


def to_dbfs(amplitude: float) -> float:
    """Return 20 log10 of a linear amplitude (1.0 = full scale), not below SILENCE_DBFS."""
    return max(SILENCE_DBFS, 20.0 * math.log10(amplitude)) if amplitude > 0 else SILENCE_DBFS
