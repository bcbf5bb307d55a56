"""The one table of live parameters: config, OSC, presets, the terminal client and docs/osc.md are made from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rvcd.errors import ParamError
from rvcd.protocol import NOTE_NAMES


@dataclass(frozen=True)
class Param:
    """One live number.

    name: key in config, presets and snapshots. address: OSC address below /rvc.
    low, high: inclusive bounds in `unit`. step: what one key press in rvcctl changes.
    of_voice: a part of how the voice sounds, so presets and voices carry it; else of the desk, which they leave alone.
    low_is_off: at its low bound the thing is off. group: where rvcctl shows it.
    choices: words for the values 0, 1, ...; the number is what is kept and sent, so a word never changes its place.
    aliases: (other word, choice).
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
    group: str = "voice"
    choices: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()

    def clamp(self, value: float) -> float:
        """Return value limited to [low, high], a choice's rounded to a whole number. Raises ParamError for NaN and infinity."""
        number = float(value)
        if not math.isfinite(number):
            raise ParamError(f"{self.name} must be a finite number, not {number}; it takes {self.range_text()}")
        limited = min(max(number, self.low), self.high)
        return float(round(limited)) if self.choices else limited

    def named(self, word: str) -> float:
        """Return the value that a word stands for: one of `choices` or `aliases` in any case, or a number. Raises ParamError."""
        wanted = word.strip().lower()
        if not self.choices or wanted.isdigit():
            return self._number(word)
        known = {name.lower(): value for value, name in enumerate(self.choices)}
        known |= {alias.lower(): known[name.lower()] for alias, name in self.aliases}
        if wanted not in known:
            raise ParamError(f"{self.name} takes one of {self.range_text()}, not '{word}'")
        return float(known[wanted])

    def _number(self, word: str) -> float:
        try:
            return self.clamp(float(word))
        except ValueError:
            raise ParamError(f"{self.name} takes a number in {self.range_text()}, not '{word}'") from None

    def word(self, value: float) -> str:
        """Return the word for a value of a parameter that has choices."""
        return self.choices[int(self.clamp(value))]

    def normalised(self, value: float) -> float:
        """Return value as 0..1 over the range."""
        return (value - self.low) / (self.high - self.low)

    def from_normalised(self, norm: float) -> float:
        """Inverse of normalised, clamped. Raises ParamError for NaN and infinity."""
        if not math.isfinite(norm):
            raise ParamError(f"{self.name}/norm must be a finite number, not {norm}; it takes 0..1")
        return self.low + min(max(norm, 0.0), 1.0) * (self.high - self.low)

    def range_text(self) -> str:
        """Return the range as users read it: '-24..24 semitones', 'major, minor'."""
        if self.choices:
            return ", ".join(self.choices)
        return f"{self.low:g}..{self.high:g} {self.unit}".rstrip()


SCALES = ("chromatic", "major", "minor", "harmonic-minor", "major-pentatonic", "minor-pentatonic")
"""What `autotune_scale` counts; engine.pitch.autotune has their notes. New ones are added at the end."""
FLATS = (("Db", "C#"), ("Eb", "D#"), ("Gb", "F#"), ("Ab", "G#"), ("Bb", "A#"))
GROUPS: tuple[str, ...] = ("voice", "tune", "levels")
"""Param.group, in the order in which rvcctl shows them."""

VOICE_PARAMS: tuple[Param, ...] = (
    Param("pitch", "/pitch", -24.0, 24.0, 0.0, "semitones", 1.0, "transpose the voice"),
    Param("formant", "/formant", -12.0, 12.0, 0.0, "semitones", 0.5, "shift the formants, keeping the pitch"),
    Param("index_rate", "/index_rate", 0.0, 1.0, 0.5, "", 0.05, "0: live units only, 1: units retrieved from the index only"),
    Param("protect", "/protect", 0.0, 0.5, 0.33, "", 0.01, "keep consonants and breath as spoken; 0.5 turns it off"),
    Param("rms_mix", "/rms_mix", 0.0, 1.0, 0.25, "", 0.05, "1: the generator's loudness, 0: the input's"),
    Param("autotune", "/autotune", 0.0, 1.0, 0.0, "", 0.05, "how far the pitch is pulled to the notes of a scale; 0 turns it off",
          low_is_off=True, group="tune"),
    Param("autotune_key", "/autotune/key", 0.0, 11.0, 0.0, "", 1.0, "the note that autotune's scale begins with",
          group="tune", choices=NOTE_NAMES, aliases=FLATS),
    Param("autotune_scale", "/autotune/scale", 0.0, len(SCALES) - 1.0, 0.0, "", 1.0, "the notes that autotune pulls to",
          group="tune", choices=SCALES),
    Param("autotune_time", "/autotune/time", 0.0, 400.0, 50.0, "ms", 10.0, "how slowly autotune pulls; 0: at once",
          group="tune"),
    Param("denoise", "/denoise", 0.0, 1.0, 0.0, "", 0.1, "how much noise is taken out of the microphone's signal; 0 turns it off",
          low_is_off=True, group="levels"),
    Param("gate", "/gate", -90.0, 0.0, -60.0, "dBFS", 1.0, "input below this level is silence; -90 turns the gate off",
          low_is_off=True, group="levels"),
    Param("gain_in", "/gain/in", -60.0, 24.0, 0.0, "dB", 0.5, "gain before conversion", group="levels"),
    Param("gain_out", "/gain/out", -60.0, 24.0, 0.0, "dB", 0.5, "gain after conversion, before the limiter", group="levels"),
)  # fmt: skip
"""What the worker takes a snapshot of, and what presets, voices and `[params]` set."""
PARAMS: tuple[Param, ...] = (
    *VOICE_PARAMS,
    Param("monitor", "/monitor", -60.0, 12.0, 0.0, "dB", 1.0, "how loud you hear yourself on the monitor; -60 turns it off",
          of_voice=False, low_is_off=True, group="levels"),
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
    autotune: float = BY_NAME["autotune"].default
    autotune_key: float = BY_NAME["autotune_key"].default
    autotune_scale: float = BY_NAME["autotune_scale"].default
    autotune_time: float = BY_NAME["autotune_time"].default
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

    def set(self, name: str, value: float | str) -> float:
        """Clamp, store and return the applied value. value: a number, or the word for it.

        Raises ParamError for an unknown name or word, NaN or infinity.
        """
        param = find_param(name)
        applied = param.named(value) if isinstance(value, str) else param.clamp(value)
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
