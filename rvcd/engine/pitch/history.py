"""The pitch of a stream's frames: final ones are kept, those of the lookahead are asked of the tracker again."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rvcd.engine.dsp.history_buffer import HistoryBuffer
from rvcd.engine.pitch.track import PitchTrack
from rvcd.engine.pitch.tracker import PitchTracker
from rvcd.engine.side_thread import SideThread


class PitchHistory:
    """Frames are numbered from the last reset. Those nobody estimated count as unvoiced."""

    def __init__(self, tracker: PitchTracker, capacity_frames: int) -> None:
        self._tracker = tracker
        self._origin = 0  # the frame of the stream that is the tracker's frame 0
        self._f0_hz, self._voiced = HistoryBuffer(capacity_frames), HistoryBuffer(capacity_frames, dtype=np.bool_)
        self._thread = SideThread("pitch")
        self._spent_ms = [0.0]

    @property
    def end(self) -> int:
        """The frame after the newest final one."""
        return self._f0_hz.end

    @property
    def spent_ms(self) -> float:
        """What estimating the newest audio took. Call wait() before."""
        return self._spent_ms[0]

    def reset(self) -> None:
        """Forget the stream. Raises what the estimate of the newest audio raised."""
        self.wait()
        self._tracker.reset()
        self._origin = 0
        self._f0_hz.reset()
        self._voiced.reset()

    def hear(self, audio_16k: NDArray[np.float32], *, aside: bool) -> None:
        """Estimate the pitch of the newest audio. aside: in a thread of its own, until wait()."""
        work = partial(_estimate, self._tracker, audio_16k, self._spent_ms)
        if aside:
            self._thread.begin(work)
        else:
            work()

    def wait(self) -> None:
        """Wait until all audio has been estimated. Raises what the estimate raised."""
        self._thread.wait()

    def settle(self, first: int, end: int) -> None:
        """Make the frames before `end` final: first .. end as they were estimated; whatever is missing before is unvoiced."""
        self.wait()
        self._fill(first)
        self._append(self._estimated(first, end))

    def skip_to(self, end: int) -> None:
        """Make the frames before `end` final and unvoiced where they are not final yet."""
        self.wait()
        self._fill(end)

    def frames(self, first: int, end: int) -> PitchTrack:
        """Return frames first .. end, the newest of them provisional. Call settle() or skip_to() before."""
        kept = min(end, self.end)
        final = PitchTrack(np.asarray(self._f0_hz.rows(first, kept)), np.asarray(self._voiced.rows(first, kept)))
        if kept == end:
            return final
        ahead = self._estimated(kept, end)
        return PitchTrack(np.concatenate((final.f0_hz, ahead.f0_hz)), np.concatenate((final.voiced, ahead.voiced)))

    def newest(self) -> tuple[float, bool]:
        """Return (f0_hz, voiced) of the newest final frame; (0, False) where there is none."""
        if not self.end or not self._voiced.rows(self.end - 1, self.end)[0]:
            return 0.0, False
        return float(self._f0_hz.rows(self.end - 1, self.end)[0]), True

    def use(self, tracker: PitchTracker, first_kept: int, audio_since: Callable[[int], NDArray[np.float32]]) -> None:
        """Ask another tracker from now on. It hears again as much as its method remembers of what is kept.

        audio_since: returns what was heard from a frame on, first_kept or later.
        """
        method = tracker.method
        remembered = method.context_frames + method.step_frames - 1
        origin = max(0, self.end - remembered) // method.grid_frames * method.grid_frames
        self._tracker, self._origin = tracker, max(origin, first_kept)
        tracker.update(audio_since(self._origin))

    def _estimated(self, first: int, end: int) -> PitchTrack:
        """Ask the tracker; the newest frame, whose last samples are still in the resampler, repeats the one before."""
        heard = min(end - self._origin, self._tracker.end_frame)
        track = self._tracker.track(first - self._origin, heard - (first - self._origin))
        missing = end - first - len(track)
        return PitchTrack(np.pad(track.f0_hz, (0, missing), mode="edge"), np.pad(track.voiced, (0, missing), mode="edge"))

    def _fill(self, end: int) -> None:
        self._append(PitchTrack.unvoiced(max(0, end - self.end)))

    def _append(self, track: PitchTrack) -> None:
        self._f0_hz.append(track.f0_hz)
        self._voiced.append(track.voiced)


def _estimate(tracker: PitchTracker, audio_16k: NDArray[np.float32], spent_ms: list[float]) -> None:
    """Not a method: the thread must not keep the history alive (see SideThread)."""
    started = time.perf_counter()
    tracker.update(audio_16k)
    spent_ms[0] = 1000 * (time.perf_counter() - started)
