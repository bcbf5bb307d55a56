"""The one table of live parameters: config, OSC, presets, the terminal client and docs/osc.md are made from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rvcd.errors import ParamError


@dataclass(frozen=True)
class Param:
    """One live number.

    name: key in config, presets and snapshots. address: OSC address below /rvc.
    low, high: inclusive bounds in `unit`. step: what one key press in rvcctl changes.
    of_voice: a part of how the voice sounds, so presets and voices carry it; else of the desk, which they leave alone.
    low_is_off: at its low bound the thing is off.
    """

    name: str
    address: str
    low: float
    high: float
    default: float
    unit: str
    step: float
    doc: str
    of_voice: bool = True
    low_is_off: bool = False

    def clamp(self, value: float) -> float:
        """Return value limited to [low, high]. Raises ParamError for NaN and infinity."""
        number = float(value)
        if not math.isfinite(number):
            raise ParamError(f"{self.name} must be a finite number, not {number}; it takes {self.range_text()}")
        return min(max(number, self.low), self.high)

    def normalised(self, value: float) -> float:
        """Return value as 0..1 over the range."""
        return (value - self.low) / (self.high - self.low)

    def from_normalised(self, norm: float) -> float:
        """Inverse of normalised, clamped. Raises ParamError for NaN and infinity."""
        if not math.isfinite(norm):
            raise ParamError(f"{self.name}/norm must be a finite number, not {norm}; it takes 0..1")
        return self.low + min(max(norm, 0.0), 1.0) * (self.high - self.low)

    def range_text(self) -> str:
        """Return the range as users read it: '-24..24 semitones'."""
        return f"{self.low:g}..{self.high:g} {self.unit}".rstrip()


VOICE_PARAMS: tuple[Param, ...] = (
    Param("pitch", "/pitch", -24.0, 24.0, 0.0, "semitones", 1.0, "transpose the voice"),
    Param("formant", "/formant", -12.0, 12.0, 0.0, "semitones", 0.5, "shift the formants, keeping the pitch"),
    Param("index_rate", "/index_rate", 0.0, 1.0, 0.5, "", 0.05, "0: live units only, 1: units retrieved from the index only"),
    Param("protect", "/protect", 0.0, 0.5, 0.33, "", 0.01, "keep consonants and breath as spoken; 0.5 turns it off"),
    Param("rms_mix", "/rms_mix", 0.0, 1.0, 0.25, "", 0.05, "1: the generator's loudness, 0: the input's"),
    Param("denoise", "/denoise", 0.0, 1.0, 0.0, "", 0.1, "how much noise is taken out of the microphone's signal; 0 turns it off",
          low_is_off=True),
    Param("gate", "/gate", -90.0, 0.0, -60.0, "dBFS", 1.0, "input below this level is silence; -90 turns the gate off",
          low_is_off=True),
    Param("gain_in", "/gain/in", -60.0, 24.0, 0.0, "dB", 0.5, "gain before conversion"),
    Param("gain_out", "/gain/out", -60.0, 24.0, 0.0, "dB", 0.5, "gain after conversion, before the limiter"),
)  # fmt: skip
"""What the worker takes a snapshot of, and what presets, voices and `[params]` set."""
PARAMS: tuple[Param, ...] = (
    *VOICE_PARAMS,
    Param("monitor", "/monitor", -60.0, 12.0, 0.0, "dB", 1.0, "how loud you hear yourself on the monitor; -60 turns it off",
          of_voice=False, low_is_off=True),
)  # fmt: skip
BY_NAME: Mapping[str, Param] = {p.name: p for p in PARAMS}
BY_ADDRESS: Mapping[str, Param] = {p.address: p for p in PARAMS}
VOICE_BY_NAME: Mapping[str, Param] = {p.name: p for p in VOICE_PARAMS}


@dataclass(frozen=True)
class Snapshot:
    """The values of every parameter of the voice at one block, in the table's units."""

    pitch: float = BY_NAME["pitch"].default
    formant: float = BY_NAME["formant"].default
    index_rate: float = BY_NAME["index_rate"].default
    protect: float = BY_NAME["protect"].default
    rms_mix: float = BY_NAME["rms_mix"].default
    denoise: float = BY_NAME["denoise"].default
    gate: float = BY_NAME["gate"].default
    gain_in: float = BY_NAME["gain_in"].default
    gain_out: float = BY_NAME["gain_out"].default

    @classmethod
    def from_values(cls, values: Iterator[float] | tuple[float, ...] | list[float]) -> Snapshot:
        """Build from numbers in the order of VOICE_PARAMS (extra numbers are ignored)."""
        return cls(**{param.name: float(value) for param, value in zip(VOICE_PARAMS, values, strict=False)})

    def values(self) -> tuple[float, ...]:
        """Return the numbers in the order of VOICE_PARAMS."""
        return tuple(getattr(self, param.name) for param in VOICE_PARAMS)


@dataclass
class ParamStore:
    """The control process's current values. Every change is clamped; nothing else may hold a copy that is written."""

    current: dict[str, float] = field(default_factory=lambda: {p.name: p.default for p in PARAMS})

    def set(self, name: str, value: float) -> float:
        """Clamp, store and return the applied value. Raises ParamError for an unknown name, NaN or infinity."""
        applied = find_param(name).clamp(value)
        self.current[name] = applied
        return applied

    def get(self, name: str) -> float:
        """Return the current value. Raises ParamError for an unknown name."""
        return self.current[find_param(name).name]

    def snapshot(self) -> Snapshot:
        """Return an immutable copy for one block."""
        return Snapshot(**self.of_voice())

    def of_voice(self) -> dict[str, float]:
        """Return a copy of the values of VOICE_PARAMS by name."""
        return {param.name: self.current[param.name] for param in VOICE_PARAMS}


def find_param(name: str) -> Param:
    """Return the parameter called name. Raises ParamError that lists the known names."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise ParamError(f"unknown parameter '{name}'; known: {', '.join(BY_NAME)}") from None
