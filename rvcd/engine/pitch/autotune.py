"""Autotune: the transposed f0 is pulled to the notes of a scale, frame by frame, from the past alone.

On the scale of semitones (MIDI numbers, p = 69 + 12 log2(f0 / a4)) every voiced frame t has a pitch p(t), the note n(t) that the
voice is on, and the pull c(t):

    c(t) = c(t-1) + (1 - exp(-10 ms / time)) * (n(t) - p(t) - c(t-1)),    f0'(t) = f0(t) * 2 ** (amount * c(t) / 12)

It is the distance to the note behind a one-pole low-pass: what is steadily off is taken out, within a few times `time`, while
what is quicker than that, a vibrato or a leap, passes (of a vibrato of 5.5 Hz, 50 ms leave 78 % and 100 ms 88 %). `time` 0:
everything is taken out at once. p is MIDI's number of a frequency, the low-pass plain exponential smoothing; that a correction
comes gradually, so that a vibrato outlives it, is common to such programs. The rule of doubt below is rvcd's own.

The note is the scale's nearest to p where a sound begins, with c = n - p at once, as there is no pitch before it to go on from.
It stays while p is on its side of the middle to the next one, and HYSTERESIS beyond that. Further out p is *in doubt*: the
excess over that bound adds up, in semitones times seconds. At DOUBT the note becomes the nearest one; back within the bound the
sum begins again. So an octave is followed within one frame, a whole tone in two, a semitone in six, and the crests of most
vibratos are over before. Meanwhile an excess of more than LEAP leaves c as it is: a leap is not bent back to where it came from.
Gaps of up to BRIDGED_FRAMES belong to the sound. Nothing looks ahead, so it adds no latency.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from rvcd.engine.dsp.history_buffer import HistoryBuffer
from rvcd.engine.pitch.track import F0_MAX_HZ, F0_MIN_HZ, BoolArray, FloatArray
from rvcd.geometry import FRAME_MS
from rvcd.params import SCALES, Snapshot

DEGREES: dict[str, tuple[int, ...]] = {
    "chromatic": tuple(range(12)),
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic-minor": (0, 2, 3, 5, 7, 8, 11),
    "major-pentatonic": (0, 2, 4, 7, 9),
    "minor-pentatonic": (0, 3, 5, 7, 10),
}
"""Semitones above the key, of each of params.SCALES."""
HYSTERESIS = 0.05
"""Semitones beyond the middle between two notes within which the earlier note stays."""
DOUBT = 0.025
"""Semitones times seconds: so much of p beyond that bound, without a frame within it, makes another note."""
LEAP = 0.3
"""Semitones beyond that bound: further out it may be another note rather than a vibrato's crest."""
BRIDGED_FRAMES = 5
"""Unvoiced frames after which the next voiced one begins a new sound; a shorter gap is a pitch that was missed."""
A4_HZ = 440.0
_A4, _OCTAVE = 69, 12
_LOWEST_HZ, _HIGHEST_HZ = 10.0, 20_000.0
"""A pitch beyond these is none, and stays as it is."""
_NOTES = range(-24, 160)


@dataclass(frozen=True)
class Tuning:
    """What is pulled to. key 0..11 from C, scale: of SCALES by number, time_ms >= 0: the pull's time constant, a4_hz > 0."""

    key: int
    scale: int
    time_ms: float
    a4_hz: float = A4_HZ

    @classmethod
    def of(cls, snapshot: Snapshot, a4_hz: float) -> Tuning:
        """Return what the parameters ask for."""
        return cls(round(snapshot.autotune_key), round(snapshot.autotune_scale), snapshot.autotune_time, a4_hz)


@dataclass
class TuneState:
    """What a frame leaves to the next. note: NaN where no sound is going on. pull: semitones. doubt: semitones times seconds."""

    note: float = math.nan
    pull: float = 0.0
    doubt: float = 0.0
    unvoiced_frames: int = 0


def steer(state: TuneState, f0_hz: FloatArray, voiced: BoolArray, tuning: Tuning) -> FloatArray:
    """Return the whole pull of each frame, (T,) semitones, 0 where there is no pitch; state is brought to the end of them.

    f0_hz (T,), voiced (T,). A voiced frame whose f0 is no number, or beyond 10..20,000 Hz, counts as unvoiced.
    """
    notes, pulls = _notes_of(tuning.key, tuning.scale), np.zeros(len(f0_hz), np.float32)
    share = 1.0 - math.exp(-FRAME_MS / tuning.time_ms) if tuning.time_ms > 0 else 1.0
    for frame, (f0, is_voiced) in enumerate(zip(f0_hz.tolist(), voiced.tolist(), strict=True)):
        if not is_voiced or not _LOWEST_HZ <= f0 <= _HIGHEST_HZ:
            state.unvoiced_frames += 1
            if state.unvoiced_frames > BRIDGED_FRAMES:
                state.note = math.nan
            continue
        state.unvoiced_frames = 0
        _follow(state, _A4 + _OCTAVE * math.log2(f0 / tuning.a4_hz), notes, share)
        pulls[frame] = state.pull
    return pulls


def _follow(state: TuneState, pitch: float, notes: tuple[int, ...], share: float) -> None:
    """Bring the state from one voiced frame to the next."""
    if math.isnan(state.note):
        state.note, state.doubt = _nearest(notes, pitch), 0.0
        state.pull = state.note - pitch
        return
    at = bisect_left(notes, state.note)
    if notes[at] != state.note:  # another key or scale
        state.note, state.doubt = _nearest(notes, pitch), 0.0
        at = bisect_left(notes, state.note)
    excess = _excess(notes, at, pitch)
    state.doubt = state.doubt + excess * FRAME_MS / 1000 if excess > 0 else 0.0
    if state.doubt >= DOUBT:
        state.note, state.doubt = _nearest(notes, pitch), 0.0
        excess = 0.0
    if excess <= LEAP:
        state.pull += share * (state.note - pitch - state.pull)


def _nearest(notes: tuple[int, ...], pitch: float) -> float:
    at = min(max(bisect_left(notes, pitch), 1), len(notes) - 1)
    return float(notes[at] if notes[at] - pitch < pitch - notes[at - 1] else notes[at - 1])


def _excess(notes: tuple[int, ...], at: int, pitch: float) -> float:
    """Return by how many semitones a pitch lies beyond where its note, notes[at], is kept; 0 or less: it does not."""
    if pitch > notes[at]:
        return pitch - (notes[at] + notes[min(at + 1, len(notes) - 1)]) / 2 - HYSTERESIS
    return (notes[at] + notes[max(at - 1, 0)]) / 2 - HYSTERESIS - pitch


@lru_cache(maxsize=256)
def _notes_of(key: int, scale: int) -> tuple[int, ...]:
    degrees = DEGREES[SCALES[scale]]
    return tuple(note for note in _NOTES if (note - key) % _OCTAVE in degrees)


def pulled(f0_hz: FloatArray, voiced: BoolArray, pulls: FloatArray, amount: FloatArray) -> FloatArray:
    """Return f0_hz * 2 ** (amount * pull / 12) on voiced frames, (T,) float32; where amount is 0, f0_hz to the bit.

    A pitch within 50..1100 Hz stays within, and one beyond does not go further.
    """
    moved = f0_hz * np.exp2(amount.astype(np.float64) * pulls / _OCTAVE)
    moved = np.clip(moved, np.minimum(f0_hz, F0_MIN_HZ), np.maximum(f0_hz, F0_MAX_HZ))
    return np.where(voiced & (amount != 0) & (pulls != 0), moved, f0_hz).astype(np.float32)


class Autotune:
    """The pulls of a stream's frames: final ones are kept, those of the lookahead are found again from where the final ones end.

    So frames that are asked for twice, for a voice that comes in later, have what they had.
    """

    def __init__(self, capacity_frames: int, a4_hz: float = A4_HZ) -> None:
        self.a4_hz, self._state, self._pulls = a4_hz, TuneState(), HistoryBuffer(capacity_frames)

    def reset(self) -> None:
        """Forget the stream."""
        self._state = TuneState()
        self._pulls.reset()

    def settle(self, first: int, settled: int, f0_hz: FloatArray, voiced: BoolArray, snapshot: Snapshot) -> None:
        """Make the frames before `settled` final. f0_hz, voiced: of the frames from `first` on, up to `settled` at least.

        What lies between the final ones and `first` is unvoiced.
        """
        if first > self._pulls.end:
            self._state = TuneState()
            self._pulls.reset(first)
        fresh = slice(self._pulls.end - first, max(settled, self._pulls.end) - first)
        self._pulls.append(steer(self._state, f0_hz[fresh], voiced[fresh], Tuning.of(snapshot, self.a4_hz)))

    def pulls(self, first: int, f0_hz: FloatArray, voiced: BoolArray, snapshot: Snapshot) -> FloatArray:
        """Return the whole pulls of the frames from `first` on, (T,) semitones; those beyond the final ones are provisional."""
        known = min(max(self._pulls.end - first, 0), len(f0_hz))
        final = np.asarray(self._pulls.rows(first, first + known), np.float32) if known else np.zeros(0, np.float32)
        state = replace(self._state) if first + known == self._pulls.end else TuneState()
        ahead = steer(state, f0_hz[known:], voiced[known:], Tuning.of(snapshot, self.a4_hz))
        return np.concatenate((final, ahead))
