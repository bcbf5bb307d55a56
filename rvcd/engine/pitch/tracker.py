"""The streaming side of pitch: a rolling 16 kHz window, re-estimated every block, and the frames that are final."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rvcd.engine.pitch.track import FRAME_SAMPLES, BoolArray, FloatArray, PitchMethod, PitchTrack
from rvcd.yielding import yield_point


@dataclass
class PitchTrackerState:
    """Everything a stream carries. Positions are absolute: samples and frames since the stream began.

    audio: the window's samples, the first of them at audio_start. f0_hz, voiced: frames from history_start on; those before
    final_end never change again, the rest are provisional.
    """

    audio: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    audio_start: int = 0
    f0_hz: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    voiced: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    history_start: int = 0
    final_end: int = 0


class PitchTracker:
    """Runs a stateless method over no more audio than it needs and keeps the track by absolute frame.

    A frame is final once lookahead_frames later frames have been heard; from then on track() always answers the same. A method
    that computes whole multiples of some frames is given so much more of the past that nothing has to be filled up.
    With the method's own context_frames and lookahead_frames the stream equals the offline track; with less lookahead the
    newest frames are estimated at the window's edge.
    """

    def __init__(
        self, method: PitchMethod, *, lookahead_frames: int, history_frames: int = 600, context_frames: int | None = None
    ) -> None:
        """lookahead_frames: frames heard after a frame before it is final, >= 0. history_frames: final frames kept for track().

        context_frames: past frames given to the method; None takes what the method asks for.
        """
        if lookahead_frames < 0 or history_frames < 0:
            raise ValueError(f"lookahead_frames {lookahead_frames} and history_frames {history_frames} must not be negative")
        self.method = method
        self.lookahead_frames = lookahead_frames
        self.history_frames = history_frames
        self.context_frames = method.context_frames if context_frames is None else context_frames
        self.state = PitchTrackerState()

    def reset(self) -> None:
        """Forget the stream: the next sample is sample 0."""
        self.state = PitchTrackerState()

    @property
    def end_frame(self) -> int:
        """The number of whole frames heard: frames below it can be asked for."""
        return (self.state.audio_start + len(self.state.audio)) // FRAME_SAMPLES

    @property
    def final_end_frame(self) -> int:
        """Frames below it are final."""
        return self.state.final_end

    def update(self, new_audio_16k: npt.ArrayLike) -> None:
        """Take the next samples of the stream, (n,) mono 16 kHz of any length, and estimate the frames that are not final."""
        state = self.state
        before = self.end_frame
        state.audio = np.concatenate([state.audio, np.asarray(new_audio_16k, np.float32)])
        end = self.end_frame
        if end == before:
            return
        start = self._window_start(end)
        yield_point()
        track = self._estimate(state.audio[start * FRAME_SAMPLES - state.audio_start :])
        yield_point()
        kept = state.final_end - state.history_start
        state.f0_hz = np.concatenate([state.f0_hz[:kept], track.f0_hz[state.final_end - start :]])
        state.voiced = np.concatenate([state.voiced[:kept], track.voiced[state.final_end - start :]])
        state.final_end = max(state.final_end, end - self.lookahead_frames)
        self._forget()

    def track(self, first_frame: int, n_frames: int) -> PitchTrack:
        """Return frames [first_frame, first_frame + n_frames). Frames before the stream began are unvoiced.

        Those at or after final_end_frame are provisional. Raises ValueError for frames not yet heard or already forgotten.
        """
        state = self.state
        last = first_frame + n_frames
        if n_frames < 0 or last > self.end_frame:
            raise ValueError(f"frames {first_frame}..{last} asked for, {self.end_frame} heard so far")
        before = min(max(-first_frame, 0), n_frames)
        low = first_frame + before - state.history_start
        if low < 0 and n_frames > before:
            raise ValueError(f"frame {first_frame} asked for, but only frames from {state.history_start} on are kept")
        f0_hz, voiced = np.zeros(n_frames, np.float32), np.zeros(n_frames, np.bool_)
        if n_frames > before:
            f0_hz[before:] = state.f0_hz[low : last - state.history_start]
            voiced[before:] = state.voiced[low : last - state.history_start]
        return PitchTrack(f0_hz, voiced)

    def _window_start(self, end: int) -> int:
        """Return the frame with which the window begins that ends before `end`."""
        kept = self.state.audio_start // FRAME_SAMPLES
        needed = max(self.state.final_end - self.context_frames, 0) // self.method.grid_frames * self.method.grid_frames
        step = self.method.step_frames
        whole = -(-(end - needed + 1) // step) * step - 1
        return max(kept, min(needed, end - whole))

    def _estimate(self, audio: FloatArray) -> PitchTrack:
        # A closed gate hands over digital zeros: the answer is known without running the method.
        if not audio.any():
            return PitchTrack.unvoiced(len(audio) // FRAME_SAMPLES)
        return self.method.estimate(audio)

    def _forget(self) -> None:
        """Cut the window and the history to what the next update and track() can need."""
        state = self.state
        grid = self.method.grid_frames
        start_frame = max(state.final_end - self.context_frames - self.method.step_frames + 1, 0) // grid * grid
        drop = start_frame * FRAME_SAMPLES - state.audio_start
        if drop > 0:
            state.audio = state.audio[drop:]
            state.audio_start += drop
        surplus = state.final_end - self.history_frames - state.history_start
        if surplus > 0:
            state.f0_hz, state.voiced = state.f0_hz[surplus:], state.voiced[surplus:]
            state.history_start += surplus
