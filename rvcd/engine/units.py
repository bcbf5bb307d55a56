"""Content units as streams, one an encoder: each unit made from the newest audio and what is remembered of the past."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.device_link import DeviceLink, LinkMaker, link_to
from rvcd.engine.dsp.history_buffer import HistoryBuffer
from rvcd.engine.graphs import Graphs, Step
from rvcd.engine.pitch.track import PitchTrack
from rvcd.geometry import ENCODER_HOP_SAMPLES, FRAMES_PER_UNIT, StreamGeometry
from rvcd.nets.contentvec_state import UNIT_HOP_SAMPLES
from rvcd.nets.rolling_buffer import RollingBuffer

CATCH_UP_FRAMES = 24
"""Past frames, at least, that an encoder hears in one go when its voice is on its way in. They fit between two blocks; being two
blocks or more, they are more than what is said meanwhile."""
STATISTICS_MEMORY_S = 2.0
"""How long the front end's norm remembers: as near to offline in steady speech as 10 s, and sooner right for another
speaker or level (docs/context.md)."""


class ContentEncoder(Protocol):
    """What the engine needs of rvcd.nets.contentvec.ContentEncoder, and rvcd.nets.envelope_encoder.EnvelopeEncoder has too."""

    attends: bool
    """Whether a unit depends on all that is seen at once, so that remembering and a window give different units."""
    hears_pitch: bool
    """Whether step() is told the pitch of the units' frames."""
    before_samples: int
    field_samples: int
    """What a unit hears: so much before its first sample, and so much from there on."""

    def check_units(self, unit_width: int, layer: int = 0) -> None:
        """Raise ModelFileError when it cannot make units of this width from this layer (0: the usual one of that width)."""
        ...

    def pack(self, dtype: torch.dtype) -> None:
        """Compute in dtype from now on."""
        ...

    def start_front_end(self, memory_s: float) -> Any:
        """Return what a stream of front_end() calls carries, with reset(), started and tensors() of what is updated in place."""
        ...

    def front_end(self, audio_16k: Tensor, state: Any = None) -> Tensor:
        """(1, before_samples + samples) -> features (1, floor((samples - field_samples) / 320) + 1, channels)."""
        ...

    def start_units(self, unit_width: int, context_units: int, layer: int = 0) -> Any:
        """Return what a stream of step() calls carries, with reset() and tensors() of what is updated in place."""
        ...

    def step(self, features: Tensor, state: Any, final: int, pitch: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(1, N, channels) behind the state's final rows -> (1, N, width), the first `final` of them final from now on.

        pitch, where it hears that: f0_hz (2 N,) and voiced (2 N,) of the units' frames.
        """
        ...

    def per_frame(self, units: Tensor) -> Tensor:
        """(N, width) -> (2 N, unit_width): what the voice takes for each frame."""
        ...

    def units(self, audio_16k: Tensor, *, unit_width: int, layer: int = 0, pitch: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Offline: (B, samples), pitch (B, frames) each -> (B, floor((samples - 400) / 320) + 1, width)."""
        ...


@dataclass(frozen=True)
class UnitKind:
    """Which of an encoder's units: their width, and the layer they come from (0: the usual one of that width)."""

    width: int
    layer: int = 0


class PitchOfFrames(Protocol):
    """What an encoder that hears the pitch is told by: rvcd.engine.pitch.history.PitchHistory."""

    def frames(self, first: int, end: int) -> PitchTrack:
        """Return the pitch of frames first .. end."""
        ...


class UnitTaker(Protocol):
    """What takes units: a voice. encoder None: the stream's own."""

    @property
    def encoder(self) -> ContentEncoder | None: ...

    @property
    def unit_kind(self) -> UnitKind: ...


@dataclass
class UnitTrack:
    """Units of one kind: the window's final ones, and behind them those of the newest block that are not final yet.

    units: (N, width), the first of them is number `first`; those from `final_end` on are provisional, and with -1 there are none.
    end_frame: of the window they were made for. state: what the encoder remembers of the final ones; of a window, that is made
    anew for each block, nothing.
    """

    state: Any
    first: int = 0
    final_end: int = -1
    units: RollingBuffer = field(default_factory=lambda: RollingBuffer(0))
    end_frame: int = -1

    def reset(self, first: int = 0, final_end: int = -1) -> None:
        """Forget all units; the next one made is number `final_end`."""
        self.state.reset()
        self.units.clear()
        self.first, self.final_end, self.end_frame = first, final_end, -1

    def tensors(self) -> list[Tensor | None]:
        """Where the stream is kept; None before the first step."""
        return [*self.state.tensors(), self.units.content]


@dataclass(frozen=True)
class UnitStep:
    """Which rows one step takes, all counted from the beginning of what is kept: the same for every block of a steady stream.

    kept: features that stay before the fresh ones; None: what is fresh is no whole unit, and leaves no trace. used: features that
    units are made of. final: how many of these become final. units: those that stay before the ones made now. anew: what the
    encoder remembers is forgotten before.
    """

    kept: tuple[int, int] | None
    used: tuple[int, int]
    final: int
    units: tuple[int, int]
    anew: bool = False


class UnitStreams:
    """The newest audio, and the units that each encoder in use makes of it.

    One encoder is in use, or two while a voice of another one is on its way in; the first is there from the start.
    """

    def __init__(
        self, encoder: ContentEncoder | None, geometry: StreamGeometry, device: torch.device, *, window: bool = False,
        link: LinkMaker = link_to, graphs: Graphs | None = None, pitch: PitchOfFrames | None = None,
    ) -> None:  # fmt: skip
        """encoder: of takers that want none in particular; None: all do. window, pitch: as UnitStream's."""
        self.encoder, self.geometry, self.device, self.window, self._link = encoder, geometry, device, window, link
        self._graphs, self._pitch = graphs or Graphs(), pitch
        self._audio = HistoryBuffer((geometry.window_frames + geometry.block_frames) * ENCODER_HOP_SAMPLES)
        self._streams: dict[int, UnitStream] = {}

    def reset(self) -> None:
        self._audio.reset()
        for stream in self._streams.values():
            stream.reset()

    def push(self, audio_16k: NDArray[np.float32]) -> None:
        """Take the newest audio, at 16 kHz."""
        self._audio.append(audio_16k)

    @property
    def first_frame(self) -> int:
        """Number of the first frame whose audio is still kept."""
        return max(0, -(-(self._audio.end - self._audio.capacity) // ENCODER_HOP_SAMPLES))

    def audio_since(self, frame: int) -> NDArray[np.float32]:
        """Return the kept audio from the start of a frame on."""
        return np.asarray(self._audio.rows(frame * ENCODER_HOP_SAMPLES, self._audio.end), dtype=np.float32)

    def per_frame(self, first_frame: int, end_frame: int, taker: UnitTaker) -> Tensor:
        """Return rows (end_frame - first_frame, width), as UnitStream.per_frame does, of the encoder that the taker wants."""
        return self._of(taker).per_frame(first_frame, end_frame, taker.unit_kind)

    def follows(self, end_frame: int, taker: UnitTaker) -> bool:
        """Say whether the units that are wanted have been made lately, so that only the newest ones of a window are missing."""
        return self._of(taker).follows(end_frame, taker.unit_kind)

    def catch_up(self, first_frame: int, end_frame: int, taker: UnitTaker) -> None:
        """Make some of the units that are missing for follows(): as many as fit between two blocks."""
        self._of(taker).catch_up(first_frame, end_frame, taker.unit_kind)

    def hear_pitch(self, taker: UnitTaker) -> bool:
        """Say whether the units that a taker wants depend on the pitch, which must be known before they are made then."""
        return self._of(taker).encoder.hears_pitch

    def keep_only(self, taker: UnitTaker) -> None:
        """Forget what other encoders have made."""
        encoder = taker.encoder or self.encoder
        self._streams = {key: stream for key, stream in self._streams.items() if stream.encoder is encoder}

    def tensors(self, taker: UnitTaker) -> list[Tensor | None]:
        """Where the stream of the encoder that a taker wants is kept; None for what has not begun."""
        return self._of(taker).tensors(taker.unit_kind)

    def _of(self, taker: UnitTaker) -> UnitStream:
        encoder = taker.encoder or self.encoder
        assert encoder is not None
        stream = self._streams.get(id(encoder))
        if stream is None:
            link = self._link(self.device)
            stream = self._streams[id(encoder)] = UnitStream(
                encoder, self.geometry, link, self._audio, window=self.window, graphs=self._graphs, pitch=self._pitch
            )
        return stream


class UnitStream:
    """Turns the newest audio into one row a frame. One encoder's.

    What a unit's front end hears (25 ms) is computed once, and so are a final unit's keys and values, by which the
    transformer sees it from then on: a block costs its own units and its lookahead's, whatever the context.

    With a window the transformer forgets them, and goes over all units of the window again for each block: the past sees the
    newest block too, but nothing sees further back than the window's beginning. An encoder without attention needs none.
    """

    def __init__(
        self,
        encoder: ContentEncoder,
        geometry: StreamGeometry,
        link: DeviceLink,
        audio: HistoryBuffer,
        *,
        window: bool = False,
        graphs: Graphs | None = None,
        pitch: PitchOfFrames | None = None,
    ) -> None:
        """audio: at 16 kHz, kept by the caller. window: go over the whole window for each block (engine.context).

        pitch: of the stream's frames, for an encoder that hears it. Raises ValueError where that is missing.
        """
        if encoder.hears_pitch and pitch is None:
            raise ValueError("this content encoder hears the pitch")
        self._pitch = pitch
        self.encoder, self.geometry, self._link, self._audio = encoder, geometry, link, audio
        self._window = window and encoder.attends
        self._front_end = encoder.start_front_end(STATISTICS_MEMORY_S)
        self._features = RollingBuffer(1)
        self._first_unit = self._end_unit = 0
        self._tracks: dict[UnitKind, UnitTrack] = {}
        self._graphs = graphs or Graphs()
        self._steps: dict[UnitKind, Step] = {}

    def reset(self) -> None:
        """Forget the stream, in place."""
        if self._front_end is not None:
            self._front_end.reset()
        self._features.clear()
        self._first_unit = self._end_unit = 0
        for track in self._tracks.values():
            track.reset()

    def tensors(self, kind: UnitKind) -> list[Tensor | None]:
        """Where the stream of a kind is kept; None for what has not begun."""
        front_end = [] if self._front_end is None else self._front_end.tensors()
        track = self._tracks.get(kind)
        return [*front_end, self._features.content, *([] if track is None else track.tensors())]

    def per_frame(self, first_frame: int, end_frame: int, kind: UnitKind) -> Tensor:
        """Return rows (end_frame - first_frame, width) for frames of the window that ends with end_frame.

        first_frame and end_frame are even. The newest frames, whose audio is not all here yet, repeat the last full unit:
        they lie in the lookahead and are computed again.
        """
        track = self._track(first_frame, end_frame, kind)
        made = track.units.content
        assert made is not None
        first = first_frame // FRAMES_PER_UNIT - track.first
        wanted = (end_frame - first_frame) // FRAMES_PER_UNIT
        if first < 0:  # of a pause nothing was kept: its end stands for it
            return self._held_back(made, -first, wanted)
        # The newest frames of a stream's first blocks may all lie in a unit that is not complete.
        units = made[min(first, len(made) - 1) :]
        if len(units) < wanted:
            units = torch.cat((units, units[-1:].expand(wanted - len(units), -1)))
        return self.encoder.per_frame(units[len(units) - wanted :])

    def _held_back(self, units: Tensor, missing: int, wanted: int) -> Tensor:
        held = torch.cat((units[:1].expand(missing, -1), units))[:wanted]
        held = torch.cat((held, held[-1:].expand(wanted - len(held), -1)))
        return self.encoder.per_frame(held)

    def follows(self, end_frame: int, kind: UnitKind) -> bool:
        """Say whether units of this kind have been made up to a block before end_frame, so that only the newest are missing."""
        track = self._tracks.get(kind)
        if track is None or track.final_end < self._window_first(end_frame):
            return False
        return end_frame - track.end_frame <= self.geometry.block_frames

    def catch_up(self, first_frame: int, end_frame: int, kind: UnitKind) -> None:
        """Make some of the units from first_frame on that are missing for follows(), as the stream would have made them.

        What the encoder's front end has made already is not made again: then all of them are made at once.
        """
        track = self._tracks.get(kind)
        stale = track is None or track.final_end < self._window_first(end_frame)
        made = first_frame if stale or track is None else track.end_frame
        heard = self._end_unit * FRAMES_PER_UNIT  # by the front end
        step = max(CATCH_UP_FRAMES, 2 * self.geometry.block_frames)
        until = (made + step) // FRAMES_PER_UNIT * FRAMES_PER_UNIT
        if heard >= end_frame - FRAMES_PER_UNIT:  # the newest unit is not complete
            until = end_frame
        self._track(first_frame, min(end_frame, until), kind)

    def _window_first(self, end_frame: int) -> int:
        return max(0, end_frame - self.geometry.window_frames) // FRAMES_PER_UNIT

    def _track(self, first_frame: int, end_frame: int, kind: UnitKind) -> UnitTrack:
        """Return the units of the window that ends with end_frame, making those that are missing.

        After a pause longer than what is remembered they begin anew, with first_frame.
        """
        geometry = self.geometry
        window_first = self._window_first(end_frame)
        track = self._tracks.get(kind)
        if track is not None and track.end_frame == end_frame:
            return track
        if track is None:
            state = self.encoder.start_units(kind.width, geometry.context_frames // FRAMES_PER_UNIT, kind.layer)
            track = self._tracks[kind] = UnitTrack(state)
            self._steps[kind] = Step("content encoder", self._graphs, partial(self.tensors, kind))
        if track.final_end < window_first:
            begin = max(window_first, first_frame // FRAMES_PER_UNIT)
            if self._features.content is not None and begin < self._first_unit <= self._end_unit:
                begin = self._first_unit
            track.reset(begin, begin)
        first = max(track.first, window_first)
        start = first if self._window else track.final_end
        audio, kept, used = self._fresh_audio(start, window_first, end_frame)
        made = used[1] - used[0]
        pitch = self._pitch_of(start, made)
        settled = (end_frame - geometry.settle_frames) // FRAMES_PER_UNIT
        if self._window:
            self._run(kind, audio, pitch, UnitStep(kept, used, 0, (0, 0), anew=True))
            track.final_end = min(max(track.final_end, settled), first + made)
        else:
            final = min(max(0, settled - track.final_end), made)
            old = (0, 0) if track.units.content is None else (first - track.first, max(first, track.final_end) - track.first)
            self._run(kind, audio, pitch, UnitStep(kept, used, final, old))
            track.final_end += final
        track.first, track.end_frame = first, end_frame
        return track

    def _pitch_of(self, first_unit: int, count: int) -> tuple[NDArray[Any], ...]:
        """Return f0_hz and voiced of units' frames, as the encoder is told them: nothing where it does not hear them."""
        if not self.encoder.hears_pitch or self._pitch is None:
            return ()
        track = self._pitch.frames(first_unit * FRAMES_PER_UNIT, (first_unit + count) * FRAMES_PER_UNIT)
        return track.f0_hz, track.voiced

    def _run(self, kind: UnitKind, audio: NDArray[Any] | None, pitch: tuple[NDArray[Any], ...], step: UnitStep) -> None:
        """Make units, as a step that can be recorded where there is audio that the front end remembers."""
        track = self._tracks[kind]
        started = self._front_end is None or self._front_end.started
        key = None if audio is None or step.kept is None or not started else step
        heard = [] if audio is None else [np.asarray(audio, np.float32)[None]]
        inputs = self._link.upload(*pitch, *heard) if pitch or heard else []
        self._steps[kind].run(key, inputs, lambda given: self._make(track, given, step))

    def _make(self, track: UnitTrack, given: list[Tensor], step: UnitStep) -> Tensor:
        """Make units. given: their pitch for an encoder that hears it; audio (1, samples) that the front end has not heard."""
        told = 2 if self.encoder.hears_pitch else 0
        pitch, audio = given[:told], given[told] if len(given) > told else None
        if audio is not None and step.kept is not None:
            self._features.roll(*step.kept, self.encoder.front_end(audio, self._front_end))
        features = self._features.content if step.kept is not None or audio is None else self.encoder.front_end(audio)
        assert features is not None
        if step.anew:
            track.state.reset()
        heard = features[:, slice(*step.used)]
        units = self.encoder.step(heard, track.state, step.final, (pitch[0], pitch[1]) if pitch else None)[0]
        return track.units.roll(*step.units, units)

    def _fresh_audio(
        self, first_unit: int, keep_from: int, end_frame: int
    ) -> tuple[NDArray[Any] | None, tuple[int, int] | None, tuple[int, int]]:
        """Return the audio that the front end has not heard of the full units from first_unit to end_frame, None if it has.

        With it, counted in what is kept of the features: those that stay at hand, which are those from keep_from on, and then
        those of the units.
        """
        end, field = min(self._audio.end, end_frame * ENCODER_HOP_SAMPLES), self.encoder.field_samples
        end_unit = (end - field) // UNIT_HOP_SAMPLES + 1
        if end_unit <= first_unit:
            # The first block of a stream may be shorter than one unit.
            audio = self._heard(first_unit * UNIT_HOP_SAMPLES, end)
            return np.pad(audio, (0, self.encoder.before_samples + field - len(audio))), None, (0, 1)
        start, kept = max(self._end_unit, first_unit), (0, 0)
        samples: NDArray[Any] | None = None
        if start < end_unit:
            samples = self._heard(start * UNIT_HOP_SAMPLES, (end_unit - 1) * UNIT_HOP_SAMPLES + field)
            if self._features.content is not None and start == self._end_unit:
                first = max(keep_from, self._first_unit)
                kept = (first - self._first_unit, self._end_unit - self._first_unit)
                self._first_unit = first
            else:
                self._first_unit = start
            self._end_unit = end_unit
        return samples, kept, (first_unit - self._first_unit, end_unit - self._first_unit)

    def _heard(self, first: int, end: int) -> NDArray[Any]:
        """Return samples first .. end and those that a unit hears before."""
        return self._audio.rows(first - self.encoder.before_samples, end)
