"""What the microphone delivers, looked at from outside the audio path: nothing at all, or what rvcd itself has just played."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rvcd.ipc.segment import AudioSegment, ReadStatus

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

DEAD_AFTER_S = 5.0
"""So long nothing but digital silence: a live microphone has noise, so this one is muted, unplugged, or not the one meant."""
DIGITAL_SILENCE = 1e-6
"""-120 dBFS. The noise of any microphone and converter is louder."""

ECHO_EVERY_S = 4.0
ECHO_WINDOW_S = 3.5
"""The rings of the segment hold more than that."""
LONGEST_ECHO_S = 0.5
"""From the callback through loudspeaker, room and microphone back to the callback, with the buffers of a sound server."""
ECHO_BAND_HZ = (200.0, 4000.0)
ECHO_SHARE = 0.15
"""Chance gives 0.03 at most in a window of this length; one loudspeaker in a room gives 0.5, a cable 1."""
AUDIBLE_RMS = 3e-3
"""-50 dBFS: of less there is nothing to look for."""


class InputWatch:
    """Call look() about ten times a second while a real device with an input runs, pause() while none does.

    dead: whether nothing but digital silence has come for DEAD_AFTER_S. echo_ms: the delay after which the microphone hears
    what rvcd plays, 0.0 while it does not.
    """

    def __init__(self, segment: AudioSegment) -> None:
        self._segment = segment
        self._alive_at = self._looked_at = self._echo_looked_at = segment.device_position()
        self._suspected_ms = 0.0
        self.dead = False
        self.echo_ms = 0.0

    def pause(self) -> None:
        """Begin anew with the next look."""
        self._alive_at = self._looked_at = self._echo_looked_at = self._segment.device_position()
        self.dead, self.echo_ms, self._suspected_ms = False, 0.0, 0.0

    def look(self) -> bool:
        """Take in what came since the last look; return whether `dead` or whether there is an echo has changed."""
        before = (self.dead, self.echo_ms > 0)
        position = self._segment.device_position()
        self._look_for_life(position)
        if position - self._echo_looked_at >= ECHO_EVERY_S * self._segment.rate_hz:
            self._echo_looked_at = position
            self._look_for_echo(position)
        return before != (self.dead, self.echo_ms > 0)

    def _look_for_life(self, position: int) -> None:
        new = min(position - self._looked_at, self._segment.in_capacity_samples // 2)
        self._looked_at = position
        if new <= 0:
            return
        heard = np.empty(new, np.float32)
        # What cannot be read any more may have been anything.
        if self._segment.read_input(position - new, heard) is not ReadStatus.OK or np.abs(heard).max() > DIGITAL_SILENCE:
            self._alive_at = position
        self.dead = position - self._alive_at >= DEAD_AFTER_S * self._segment.rate_hz

    def _look_for_echo(self, position: int) -> None:
        """An echo counts when it is found twice at the same delay: what sounds like one once is chance, or a rhythm."""
        samples = int(ECHO_WINDOW_S * self._segment.rate_hz)
        if position < samples:
            return
        heard, played = np.empty(samples, np.float32), np.empty(samples, np.float32)
        found = None
        if (
            self._segment.read_input(position - samples, heard) is ReadStatus.OK
            and self._segment.read_tap(position - samples, played) is ReadStatus.OK
        ):
            found = echo_of(heard, played, self._segment.rate_hz)
        if found is None:
            self._suspected_ms = self.echo_ms = 0.0
            return
        if abs(found.delay_ms - self._suspected_ms) <= 1.0:
            self.echo_ms = found.delay_ms
        self._suspected_ms = found.delay_ms


@dataclass(frozen=True)
class Echo:
    """delay_ms: behind what was played, 0..500. share: 0..1, 1 where nothing else is heard."""

    delay_ms: float
    share: float


def echo_of(heard: FloatArray, played: FloatArray, rate_hz: int) -> Echo | None:
    """Return how `heard` (T,) contains what was `played` (T,) at the same time, or None where it does not.

    The generalised cross-correlation with phase transform (Knapp and Carter, 1976) from 200 to 4000 Hz. Unlike speech, it has
    one sharp peak, and only where one signal is a delayed and filtered copy of the other.
    """
    step = max(1, rate_hz // 12_000)
    rate = rate_hz / step
    to, source = _decimated(heard, step), _decimated(played, step)
    if min(_rms(to), _rms(source)) < AUDIBLE_RMS:
        return None
    window = np.hanning(len(to))
    cross = np.fft.rfft(window * to) * np.conj(np.fft.rfft(window * source))
    frequencies = np.fft.rfftfreq(len(to), 1.0 / rate)
    size = np.abs(cross)
    used = (frequencies >= ECHO_BAND_HZ[0]) & (frequencies <= ECHO_BAND_HZ[1]) & (size > 0)
    if not used.any():
        return None
    phases = np.where(used, cross / np.where(size > 0, size, 1.0), 0.0)
    # Normalised so that a mere delay gives 1: irfft divides by the length, and half of the spectrum is left out.
    correlation = np.fft.irfft(phases, len(to)) * len(to) / (2 * used.sum())
    lags = np.abs(correlation[: int(LONGEST_ECHO_S * rate)])
    best = int(lags.argmax())
    share = float(lags[best])
    return Echo(1000.0 * best / rate, min(1.0, share)) if share >= ECHO_SHARE else None


def _decimated(samples: FloatArray, step: int) -> DoubleArray:
    """Return the means of each `step` samples: what it folds down does not matter for the phase of the rest."""
    return np.asarray(samples[: len(samples) // step * step].reshape(-1, step).mean(axis=1, dtype=np.float64))


def _rms(samples: DoubleArray) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))
