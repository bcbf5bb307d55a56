"""Levels: gate, loudness match, limiter, gain ramp. Streaming, mono.

Every processor keeps its state in a dataclass, has reset(), returns a new array and takes non-finite samples as 0.
GainRamp and Limiter take blocks of any length. Gate and RmsMix take whole 10 ms hops (the engine's blocks are): they
may then look at the hop they are working on without adding latency, and any cut into whole hops gives the same output.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rvcd.engine.dsp.glide import Glide
from rvcd.engine.dsp.levels import DoubleArray, FloatArray, HopEnergies, finite, hop_samples_of, trailing_rms

BoolArray = npt.NDArray[np.bool_]

GATE_OFF_DBFS = -90.0
GATE_ATTACK_MS = 4.0
GATE_HOLD_HOPS = 6
RMS_MIX_FLOOR = 1e-3
LIMITER_THRESHOLD = 10.0 ** (-1.0 / 20.0)
LIMITER_RELEASE_MS = 60.0


@dataclass
class GateState:
    """energies: see HopEnergies. level: 40 ms RMS at the end of the last hop. open: whether it ended with gain 1.

    hold: hops the gate stays open for.
    """

    energies: HopEnergies = field(default_factory=HopEnergies)
    level: float = 0.0
    open: bool = False
    hold: int = 0


class Gate:
    """Silences hops whose 40 ms level is below a threshold.

    Latency zero, which means: an onset opens the gate from the start of the very 10 ms hop it falls in, over a 4 ms ramp, so of
    a sound that starts within those 4 ms only its first 4 ms are softened; nothing before that hop can be let through any more.
    Closing waits until the last 40 ms are below the threshold, then a hold of 60 ms, then fades over a hop. Opening takes a whole
    hop too where not the sound has risen but the threshold has sunk: no onset is lost then, and a fader should not tick.
    """

    def __init__(self, rate_hz: int) -> None:
        """rate_hz: of the audio. Raises ValueError if 10 ms are not a whole number of samples."""
        self.hop_samples = hop_samples_of(rate_hz)
        attack_samples = max(1, round(rate_hz * GATE_ATTACK_MS / 1000.0))
        self._attack = np.concatenate([_rise(attack_samples), np.ones(self.hop_samples - attack_samples, np.float32)])
        self._fade_in = _rise(self.hop_samples)
        self._fade_out = self._fade_in[::-1]
        self.reset()

    def reset(self) -> None:
        """Closed, nothing heard."""
        self.state = GateState()
        self.open: BoolArray = np.zeros(0, np.bool_)
        """(hops,) of the last block: whether anything of the hop can be heard; False means exact zeros."""

    def process(self, block: npt.ArrayLike, threshold_dbfs: float) -> FloatArray:
        """Return the gated block (n,), n a whole number of hops. threshold_dbfs <= -90 lets everything through unchanged.

        Raises ValueError for a part hop.
        """
        samples = finite(block)
        levels = trailing_rms(samples, self.hop_samples, self.state.energies)
        off = threshold_dbfs <= GATE_OFF_DBFS
        threshold = 0.0 if off else 10.0 ** (threshold_dbfs / 20.0)
        loud = levels >= threshold
        was_open = np.empty(len(loud), np.bool_)
        is_open = np.empty(len(loud), np.bool_)
        for hop, heard in enumerate(loud.tolist()):
            was_open[hop] = self.state.open
            self.state.open = heard or self.state.hold > 0
            self.state.hold = GATE_HOLD_HOPS if heard else max(self.state.hold - 1, 0)
            is_open[hop] = self.state.open
        self.open = was_open | is_open
        levels_before = np.concatenate([[self.state.level], levels])
        self.state.level = float(levels_before[-1])
        if (was_open & is_open).all():
            return samples.copy()
        hops = samples.reshape(len(loud), self.hop_samples).copy()
        opening, was_as_loud = is_open & ~was_open, levels_before[:-1] >= threshold
        hops[opening & ~was_as_loud] *= self._attack
        hops[opening & was_as_loud] *= self._fade_in
        hops[was_open & ~is_open] *= self._fade_out
        hops[~self.open] = 0.0
        return hops.reshape(-1)


def _rise(samples: int) -> FloatArray:
    """Return half a raised cosine, (samples,), from above 0 to below 1."""
    return np.asarray(np.sin(0.5 * np.pi * (np.arange(samples) + 1.0) / (samples + 1.0)) ** 2, np.float32)


@dataclass
class RmsMixState:
    """Energies of both signals, their RMS at the end of the last hop.

    held: wet samples that wait for the middle of their window.
    """

    dry_energies: HopEnergies = field(default_factory=HopEnergies)
    wet_energies: HopEnergies = field(default_factory=HopEnergies)
    dry_rms: float = 0.0
    wet_rms: float = 0.0
    held: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))


class RmsMix:
    """Gives the generator's output some of the input's loudness: out *= (rms_in / max(rms_out, 1e-3)) ** (1 - rate).

    Upstream's formula: RMS of 40 ms every 10 ms, linear between. A sample leaves delay_samples (20 ms) after it came in, when the
    40 ms around it are known: a loudness that trails the voice would be heard as lateness.
    """

    def __init__(self, rate_hz: int) -> None:
        """rate_hz: of both signals. Raises ValueError if 10 ms are not a whole number of samples."""
        self.hop_samples = hop_samples_of(rate_hz)
        self.delay_samples = 2 * self.hop_samples
        self._fraction = (np.arange(self.hop_samples) + 1.0) / self.hop_samples
        self._glide = Glide(rate_hz)
        self.reset()

    def reset(self) -> None:
        """Nothing heard yet; the next block's rate applies at once."""
        self._glide.reset()
        self.state = RmsMixState(held=np.zeros(self.delay_samples, np.float32))

    def process(self, dry: npt.ArrayLike, wet: npt.ArrayLike, rate: float) -> FloatArray:
        """Return the wet of delay_samples ago (n,), its loudness matched to dry's; dry, wet (n,) are aligned, whole hops.

        rate: 1 keeps wet as it is (bit-exact), 0 takes dry's loudness; it glides from the last block's value.
        Raises ValueError for unequal lengths or a part hop.
        """
        reference, output = finite(dry), finite(wet)
        if reference.shape != output.shape:
            raise ValueError(f"dry {reference.shape} and wet {output.shape} must be of one length")
        state = self.state
        dry_rms = self._interpolate(state.dry_rms, trailing_rms(reference, self.hop_samples, state.dry_energies))
        wet_rms = self._interpolate(state.wet_rms, trailing_rms(output, self.hop_samples, state.wet_energies))
        if not len(output):
            return output.copy()
        state.dry_rms, state.wet_rms = float(dry_rms[-1]), float(wet_rms[-1])
        joined = np.concatenate((state.held, output))
        output, state.held = joined[: len(output)], joined[len(output) :]
        taken = self._glide.over(len(output), rate)
        if isinstance(taken, float) and taken == 1.0:
            return output.copy()
        ratio = np.maximum(dry_rms, 1e-9) / np.maximum(wet_rms, RMS_MIX_FLOOR)
        return np.asarray(output * np.power(ratio, 1.0 - taken), np.float32)

    def _interpolate(self, before: float, levels: DoubleArray) -> DoubleArray:
        """Return (hops * hop_samples,): lines from each hop's level to the next; its own level at its last sample."""
        starts = np.concatenate([[before], levels[:-1]]) if len(levels) else levels
        return np.asarray(starts[:, None] * (1.0 - self._fraction) + levels[:, None] * self._fraction).reshape(-1)


@dataclass
class LimiterState:
    """envelope: the decaying peak, linear, after the last sample."""

    envelope: float = 0.0


class Limiter:
    """A peak limiter without look-ahead: transparent below -1 dBFS, never above 1.0.

    The envelope follows a rising peak at once and falls with a time constant of 60 ms; a soft knee (tanh, continuous slope) maps
    it into -1..0 dBFS and the signal is scaled by the same factor. As the envelope never jumps where the signal does not,
    neither does the gain. The price of zero look-ahead: the first quarter wave of a new, louder peak is rounded off.
    """

    def __init__(self, rate_hz: int) -> None:
        """rate_hz: of the audio, > 0."""
        self._decay = -1000.0 / (LIMITER_RELEASE_MS * rate_hz)  # of the envelope's logarithm, per sample
        self.reset()

    def reset(self) -> None:
        """Forget the last peak."""
        self.state = LimiterState()

    def process(self, block: npt.ArrayLike) -> FloatArray:
        """Return the limited block (n,), |y| <= 1. Bit-exact where no peak within reach exceeds -1 dBFS."""
        samples = finite(block)
        if not len(samples):
            return samples.copy()
        level = np.abs(samples).astype(np.float64)
        if self.state.envelope <= LIMITER_THRESHOLD and float(level.max()) <= LIMITER_THRESHOLD:
            # Below the knee only the envelope's future matters: it cannot exceed the knee before a sample does.
            self.state.envelope = 0.0
            return samples.copy()
        # envelope[n] = max(level[n], envelope[n - 1] * d) = d**n * max over m <= n of level[m] / d**m, in logarithms.
        steps = self._decay * (np.arange(len(level)) + 1.0)
        with np.errstate(divide="ignore"):
            rising = np.maximum.accumulate(np.log(level) - steps)
            carried = np.log(self.state.envelope) if self.state.envelope > 0 else -np.inf
        envelope = np.maximum(np.exp(np.maximum(rising, carried) + steps), level)
        self.state.envelope = float(envelope[-1])
        return np.clip(samples * _knee_gain(envelope), -1.0, 1.0).astype(np.float32)


def _knee_gain(envelope: DoubleArray) -> DoubleArray:
    """Return f(e) / e for the soft knee f: e below the threshold t, t + (1 - t) tanh((e - t) / (1 - t)) above."""
    room = 1.0 - LIMITER_THRESHOLD
    over = np.maximum(envelope - LIMITER_THRESHOLD, 0.0)
    bent = LIMITER_THRESHOLD + room * np.tanh(over / room)
    return np.where(over > 0, bent / np.maximum(envelope, LIMITER_THRESHOLD), 1.0)


def _amplitude(gain_db: DoubleArray) -> DoubleArray:
    return np.asarray(np.power(10.0, gain_db / 20.0))


class GainRamp:
    """A gain in dB that glides to a new value across one block: straight in dB, without corners (see Glide)."""

    def __init__(self, rate_hz: int) -> None:
        """rate_hz: of the audio, > 0."""
        self._glide = Glide(rate_hz, _amplitude)

    def reset(self) -> None:
        """The next block's gain applies at once."""
        self._glide.reset()

    def process(self, block: npt.ArrayLike, gain_db: float) -> FloatArray:
        """Return block (n,) times the gain, which rests at gain_db 20 ms after the block. Resting at 0 dB is bit-exact."""
        samples = finite(block)
        if not len(samples):
            return samples.copy()
        gain = self._glide.over(len(samples), gain_db)
        if isinstance(gain, float):
            return samples.copy() if gain == 1.0 else samples * np.float32(gain)
        return (samples * gain).astype(np.float32)
