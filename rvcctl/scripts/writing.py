"""How values are written on a terminal: one alone, a status in sections, a line of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from rvcctl.names import SETTABLE, Kind, names_of
from rvcctl.reading import clean_text, number_of
from rvcd import protocol
from rvcd.osc.codec import OscValue
from rvcd.params import BY_NAME
from rvcd.protocol import ON_FROM

_ON_OR_OFF = frozenset({*names_of(Kind.SWITCH), "panic"})
NOTHING = "-"
"""Stands for an empty text where a value has to be seen: in a status and in a column."""

SECTIONS: Mapping[str, Sequence[str]] = {
    "state": (
        "state", "bypass", "mute", "panic", "talk", "talk_mode", "fault", "advice", "hint", "device", "rate_hz", "uptime_s",
    ),
    "voice": ("voice", "voice_slot", "speaker", "speakers", "loading", "preset", "f0_method", "pitch_mode", "pitch_auto",
              "register_hz"),
    "levels": ("in_peak_dbfs", "out_peak_dbfs", "in_clips", "out_clips", "f0_hz", "note", "cents"),
    "latency": ("latency_preset", "latency_total_ms", "latency_device_in_ms", "latency_block_ms", "latency_lookahead_ms",
                "latency_deadline_ms", "latency_device_out_ms", "latency_offset_ms", "latency_denoise_ms", "ring_fill"),
    "losses": ("late_blocks", "late_samples", "late_events", "expired_samples", "skipped_blocks", "failed_blocks", "gap_samples",
               "overflow_samples", "bad_input_samples", "bad_output_samples", "stale_samples", "absent_samples",
               "input_xruns", "output_xruns",
               "callback_gap_max_ms", "worker_restarts"),
    "engine": ("load", "load_p95", "blocks", "encode_ms", "pitch_ms", "synthesis_ms", "retrieval_ms", "scheduling"),
    "clocks": ("clock_ratio", "clock_drift_ppm", "clock_fill_ms", "clock_starved", "clock_recentred"),
    "monitor": ("monitor_state", "monitor_mute", "monitor_source", "monitor_peak_dbfs", "monitor_underruns", "monitor_problem"),
    "gpu": ("gpu_util", "gpu_memory_mb", "gpu_memory_total_mb"),
    "recording": ("record", "record_s"),
}  # fmt: skip
"""Every name of STATS_NAMES, in the order in which a person asks."""
REMARKS: Mapping[str, str] = {"callback_gap_max_ms": "of the last minute", "scheduling": "of the device's thread"}
"""What a name leaves open."""


class ReaderGoneError(Exception):
    """Whoever read the output has left, as `rvcctl watch | head` does: not a failure, and nothing is left to do."""


def say(line: str) -> None:
    """Print a line at once. Raises ReaderGoneError when nobody reads any more."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise ReaderGoneError from None


def stats_values(stats: protocol.Stats) -> dict[str, str | int | float]:
    """Return the telemetry under STATS_NAMES; floats as OSC's 32 bits really carry them, switches as 0 and 1."""
    note, cents = protocol.note_of(stats.f0_hz)
    values: dict[str, str | int | float] = {}
    for field in fields(stats):
        value: str | int | float = getattr(stats, field.name)
        values[field.name] = value if isinstance(value, str) else rounded(value)
        if field.name == "f0_hz":
            values.update(note=note, cents=round(cents, 1))
    return values


def rounded(value: int | float) -> int | float:
    """Return a float with the six digits that 32 bits carry; an int as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def written(name: str, value: OscValue) -> str:
    """Return one value of a READABLE name as the command line writes it: switches as on and off."""
    number = number_of(value)
    if number is None or isinstance(value, str):
        return clean_text(value)
    if name in _ON_OR_OFF:
        return "on" if number >= ON_FROM else "off"
    if name in BY_NAME and BY_NAME[name].choices:
        return BY_NAME[name].word(number)
    if name in SETTABLE:
        return f"{number:g}"
    return str(rounded(number) if isinstance(value, float) else value)


def status_lines(values: Mapping[str, str | int | float]) -> Iterator[str]:
    """Yield a status for people: each section's name, and below it one `name  value` a line, to two decimals."""
    width = max(map(len, values))
    for section, names in SECTIONS.items():
        if section == "gpu" and values["gpu_util"] < 0:  # type: ignore[operator]
            yield "gpu: none"
            continue
        if section == "clocks" and not values["clock_ratio"]:
            yield "clocks: one"
            continue
        if section == "monitor" and values["monitor_state"] == protocol.MonitorState.OFF:
            yield "monitor: none"
            continue
        yield f"{section}:"
        for name in names:
            value = values[name]
            if isinstance(value, float) and name != "clock_ratio":  # which differs from 1 by millionths
                value = round(value, 2)
            text = written(name, value) or NOTHING
            yield f"  {name:<{width}}  {text}" + (f" ({REMARKS[name]})" if name in REMARKS else "")


def summary_line(values: Mapping[str, str | int | float]) -> str:
    """Return one push as one line for people, of at most 120 columns or so."""
    xruns = int(values["input_xruns"]) + int(values["output_xruns"])
    flags = " ".join(name for name in ("record", "talk") if values[name])
    return (
        f"{values['state']:<10}  {values['voice'] or NOTHING:<16}"
        f"  in {values['in_peak_dbfs']:>6.1f}  out {values['out_peak_dbfs']:>6.1f} dBFS"
        f"  {values['note']:>3} {values['cents']:+3.0f}  {values['latency_total_ms']:.1f} ms  load {values['load']:.2f}"
        f"  late {values['late_blocks']}  xruns {xruns}  {flags}"
    ).rstrip()


def columns(names: Sequence[str], values: Mapping[str, OscValue]) -> str:
    """Return some values as one line, separated by tabs, an empty text as '-'."""
    return "\t".join(written(name, values[name]) or NOTHING for name in names)
