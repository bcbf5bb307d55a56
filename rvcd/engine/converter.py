"""The converter: one block of microphone in, one block of voice out, `geometry.lookahead_samples` later. Read process()."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.dsp.history_buffer import HistoryBuffer
from rvcd.dsp.loudness import GainRamp, Gate, Limiter, RmsMix
from rvcd.dsp.resample import StreamResampler
from rvcd.engine.faders import Faders
from rvcd.engine.incoming import FADE_MS, FEED_FRAMES, JOIN_FRAMES, Incoming, Step, StepCosts, fade_over
from rvcd.engine.pitch import PitchMethod, PitchTrack, PitchTracker, fill_unvoiced, transpose
from rvcd.engine.stopwatch import Stopwatch, Timings
from rvcd.engine.units import ContentEncoder, UnitStream
from rvcd.engine.voice_stream import FrameBatch, Voice, VoiceStream
from rvcd.geometry import ENCODER_RATE_HZ, FRAMES_PER_UNIT, StreamGeometry
from rvcd.params import Snapshot

GATE_MARGIN_FRAMES = 4
"""Output within this many frames of an open gate is kept: consonants begin and end below the threshold."""


AFTER_SILENCE_FRAMES = 6
"""Frames decoded and thrown away where the gate opens: it is seen to open more frames than that before it is heard, so that the
decoder's left context (11.4 frames) is real by then."""


class EngineError(Exception):
    """A block could not be converted (a network gave NaN or infinity)."""


@dataclass(frozen=True)
class Block:
    """One converted block. audio (block_samples,) float32 in -1..1. f0_hz of the newest final frame, before transposing."""

    audio: NDArray[np.float32]
    f0_hz: float
    voiced: bool
    silent: bool
    timings: Timings


class Converter:
    """Owns the stream's state; knows no device, no socket, no config.

    Frames are numbered from the last reset(); frame t covers input samples t * hop .. (t + 1) * hop.
    """

    def __init__(
        self,
        geometry: StreamGeometry,
        encoder: ContentEncoder,
        pitch: PitchTracker,
        voice: Voice,
        *,
        speaker_id: int = 0,
        gain_db: float = 0.0,
        seed: int = 0,
        fill_unvoiced: bool = False,
        snapshot: Snapshot | None = None,
        device: str = "cpu",
    ) -> None:
        """gain_db: the voice's own, on top of gain_out.

        fill_unvoiced: interpolate f0 through unvoiced frames for the generator (RVC of 2026) instead of leaving them so.
        """
        self.geometry, self.pitch, self.seed, self.fill_unvoiced = geometry, pitch, seed, fill_unvoiced
        self.encoder, self.device = encoder, torch.device(device)
        self.units = UnitStream(encoder, geometry, self.device)
        self.faders = Faders.at_rest(snapshot or Snapshot())
        self.stream = self.new_stream(voice, speaker_id, gain_db)
        self.incoming: Incoming | None = None
        self.step_costs = StepCosts()
        self.block_ms = 0.0
        """What the last block that was heard took to compute."""

        rate, frames = geometry.rate_hz, geometry.window_frames + 2 * geometry.block_frames
        samples = frames * geometry.hop_samples
        self.to_encoder = StreamResampler(rate, ENCODER_RATE_HZ, geometry.block_samples)
        self.gate = Gate(rate)
        self.gain_in, self.gain_out = GainRamp(rate), GainRamp(rate)
        self.rms_mix, self.limiter = RmsMix(rate), Limiter(rate)
        self.gated = HistoryBuffer(samples)
        self.open = HistoryBuffer(frames, dtype=np.bool_)
        self.f0_hz, self.voiced = HistoryBuffer(frames), HistoryBuffer(frames, dtype=np.bool_)
        self._cores = len(os.sched_getaffinity(0))
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="pitch")
        self._hearing: Future[float] | None = None
        self._pitch_own_ms = 0.0
        self.reset()

    @property
    def voice(self) -> Voice:
        """The voice that is heard."""
        return self.stream.voice

    @property
    def applied(self) -> Snapshot:
        """The parameters with which the last block ended."""
        return self.faders.now

    def reset(self) -> None:
        """Forget all audio. Parameters and the voice stay."""
        self._wait_for_pitch()
        for part in (self.units, self.to_encoder, self.gate, self.gain_in, self.gain_out, self.rms_mix, self.limiter,
                     self.gated, self.open, self.f0_hz, self.voiced, self.pitch):  # fmt: skip
            part.reset()
        self.blocks, self.primed, self.decoding, self.pitch_origin = 0, False, False, 0
        self._adopt()
        self.stream.restart(0)

    # ---- another voice

    def new_stream(self, voice: Voice, speaker_id: int = 0, gain_db: float = 0.0) -> VoiceStream:
        """Return a voice's stream, for switch(). May run on any thread."""
        return VoiceStream(voice, self.geometry, seed=self.seed, speaker_id=speaker_id, gain_db=gain_db)

    def switch(self, stream: VoiceStream) -> None:
        """Begin to change to another voice. Call prepare() between blocks until it says that there is nothing left to do.

        The next block then begins with the crossfade. Where nothing is heard, the change is immediate.
        """
        end = self.blocks * self.geometry.block_frames
        self.incoming = Incoming(stream, max(0, end - self.geometry.window_frames))
        stream.restart(self.incoming.fed)
        if not self.decoding:
            self._adopt()
            self.primed = False

    def next_step(self) -> Step | None:
        """Return what prepare() would do for the incoming voice; None: nothing."""
        incoming = self.incoming
        if incoming is None or incoming.ready_at == self.blocks:
            return None
        end = self.blocks * self.geometry.block_frames
        if not self.units.follows(end, incoming.stream.unit_width):
            return Step.UNITS
        return Step.FEED if end - self.geometry.settle_frames - incoming.fed > FEED_FRAMES else Step.JOIN

    @torch.inference_mode()
    def prepare(self) -> None:
        """Do the next step for the incoming voice, if there is one. Raises EngineError when its networks give no numbers."""
        step, incoming = self.next_step(), self.incoming
        if step is None or incoming is None:
            return
        started = time.perf_counter()
        end = self.blocks * self.geometry.block_frames
        settled = end - self.geometry.settle_frames
        if step is Step.UNITS:
            self.units.per_frame(max(incoming.fed, end - self.geometry.window_frames), end, incoming.stream.unit_width)
        elif step is Step.FEED:
            window_first = max(0, end - self.geometry.window_frames)
            if incoming.fed < window_first:  # too long on its way: what it was fed last is forgotten already
                incoming.stream.restart(window_first)
                incoming.fed = window_first
            self._feed_past(incoming, min(settled, incoming.fed + FEED_FRAMES), end)
        else:
            self._join(incoming, settled, end)
        if self.block_ms > 0:
            self.step_costs.add(step, 1000 * (time.perf_counter() - started), self.block_ms)

    def step_cost_ms(self, step: Step) -> float:
        """Return how long a step of prepare() will probably take."""
        return self.step_costs.expect_ms(step, self.block_ms)

    def _feed_past(self, incoming: Incoming, until: int, end: int) -> None:
        first = incoming.fed
        units = self.units.per_frame(first, end, incoming.stream.unit_width)[: until - first]
        f0_hz, voiced = self._known_pitch(first, until)
        incoming.stream.feed(self._batch(incoming.stream, first, until, units, f0_hz, voiced, Faders.at_rest(self.applied)))
        incoming.fed = until

    def _join(self, incoming: Incoming, settled: int, end: int) -> None:
        """Bring the new voice to the very sample that is heard next, and keep how the old one would have gone on."""
        stream, first = incoming.stream, incoming.fed
        known, ahead = self._known_pitch(first, settled), self._pitch_between(settled, end)
        f0_hz, voiced = np.concatenate((known[0], ahead.f0_hz)), np.concatenate((known[1], ahead.voiced))
        units = self.units.per_frame(first, end, stream.unit_width)
        stream.feed(self._batch(stream, first, settled, units, f0_hz, voiced, Faders.at_rest(self.applied)))
        incoming.fed = settled
        heard = self._heard_end() + self.rms_mix.delay_samples
        stream.start_decoding(heard // self.geometry.hop_samples, JOIN_FRAMES)
        if not np.isfinite(stream.samples(heard - 1, heard)).all():
            raise EngineError("the new voice's networks gave NaN or infinite samples")
        fade = min(self.geometry.block_samples, round(FADE_MS * self.geometry.rate_hz / 1000))
        incoming.tail = self.stream.samples(heard, heard + fade)
        incoming.ready_at = self.blocks

    def _known_pitch(self, first: int, end: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return np.asarray(self.f0_hz.rows(first, end)), np.asarray(self.voiced.rows(first, end))

    def _take_over(self, silent: bool) -> NDArray[np.float32]:
        """Let the incoming voice begin if this is its block or nothing is heard; return what is to be faded out."""
        incoming = self.incoming
        if incoming is None:
            return np.zeros(0, np.float32)
        if self.decoding and not silent:
            return self._adopt() if incoming.ready_at == self.blocks - 1 else np.zeros(0, np.float32)
        self._adopt()
        self.primed = False
        return np.zeros(0, np.float32)

    def _adopt(self) -> NDArray[np.float32]:
        """Let the incoming voice, if there is one, be the voice; return the old one's end, to fade out."""
        incoming, self.incoming = self.incoming, None
        if incoming is None:
            return np.zeros(0, np.float32)
        self.stream = incoming.stream
        return incoming.tail

    def use_pitch(self, method: PitchMethod) -> None:
        """Use another pitch method from the next block on, over the audio already heard."""
        self.pitch = PitchTracker(method, lookahead_frames=self.geometry.settle_frames)
        self.pitch_origin = max(0, self.f0_hz.end - method.context_frames) // method.grid_frames * method.grid_frames
        self.pitch_origin = max(self.pitch_origin, self.units.first_frame)
        self.pitch.update(self.units.audio_since(self.pitch_origin))

    def recover(self) -> None:
        """After a block that raised: keep the audio context and the place in the stream, start the voice afresh."""
        with contextlib.suppress(Exception):
            self._wait_for_pitch()
        self.primed = self.decoding = False

    def absorb(self, block: NDArray[np.float32], snapshot: Snapshot) -> None:
        """Take a block as context only: no network runs, its output is not wanted (it came too late)."""
        self._take_audio(block, snapshot, Stopwatch())
        self._skip_frames()
        self.faders = self.faders.then(snapshot)

    @torch.inference_mode()
    def process(self, block: NDArray[np.float32], snapshot: Snapshot) -> Block:
        """Convert one block (block_samples,) and return the one that ends lookahead_samples before its end.

        Parameters move within the block to the values of this snapshot (see Faders). Raises EngineError when the
        networks give no numbers; call recover() then.
        """
        watch = Stopwatch()
        self.faders = self.faders.then(snapshot)
        self._take_audio(block, snapshot, watch)

        geometry = self.geometry
        # The loudness match holds the voice back a little, so it is made that much earlier than it is heard.
        out_end = self._heard_end() + self.rms_mix.delay_samples
        out_first = out_end - geometry.block_samples
        end = self.blocks * geometry.block_frames
        silent = out_end <= 0 or self._is_silent(out_first)
        if silent and (out_end <= 0 or not self._was_open_since(end - geometry.window_frames)):
            self._skip_frames()
            self._adopt()
            return self._finish(np.zeros(geometry.block_samples, np.float32), watch, silent=True)

        settled = end - geometry.settle_frames
        known = max(0, settled - geometry.block_frames)
        out_frame = max(0, out_first) // geometry.hop_samples
        tail = self._take_over(silent)
        stream, first = self.stream, known
        if not self.primed:
            # What lies further back was silence, or is too old to be worth a late block.
            first = max(0, end - geometry.window_frames, min(known, out_frame - stream.start_frames) // 2 * 2)
            stream.restart(out_frame)
        units = self.units.per_frame(first, end, stream.unit_width)
        watch.lap("encode")
        f0_hz, voiced = self._track_pitch(known, settled, end)
        watch.lap("pitch")

        past = self._known_pitch(first, known)
        f0_hz, voiced = np.concatenate((past[0], f0_hz)), np.concatenate((past[1], voiced))
        batch = self._batch(stream, first, settled, units, f0_hz, voiced, self.faders)
        watch.lap("retrieval")
        stream.feed(batch)
        watch.lap("prior")
        if silent:
            # Through a short pause all but the decoder goes on: the next word finds its past, and costs what any block costs.
            self.primed, self.decoding = True, False
            return self._finish(np.zeros(geometry.block_samples, np.float32), watch, silent=True)
        if self.primed and not self.decoding:
            stream.start_decoding(out_frame, AFTER_SILENCE_FRAMES)
        audio = np.zeros(geometry.block_samples, np.float32)
        audio[max(0, -out_first) :] = stream.samples(max(0, out_first), out_end, watch)
        audio = fade_over(audio, tail)
        self.primed = self.decoding = True
        if not np.isfinite(audio).all():
            raise EngineError("the voice's networks gave NaN or infinite samples")
        return self._finish(audio * self._openness(out_first, out_end), watch, silent=False)

    def _take_audio(self, block: NDArray[np.float32], snapshot: Snapshot, watch: Stopwatch) -> None:
        """Gain, gate, and every place that keeps audio."""
        gated = self.gate.process(self.gain_in.process(block, snapshot.gain_in), snapshot.gate)
        self.gated.append(gated)
        self.open.append(self.gate.open)
        watch.lap("other")
        audio_16k = self.to_encoder.process(gated)
        watch.lap("resample")
        self.units.push(audio_16k)
        self.blocks += 1
        watch.lap("other")
        if self._has_spare_core():
            # The pitch needs nothing of the content encoder: it is estimated beside it.
            self._hearing = self._aside.submit(self._hear, audio_16k)
        else:
            self._pitch_own_ms = self._hear(audio_16k)
            watch.lap("pitch")

    def _has_spare_core(self) -> bool:
        """Say whether a thread beside the networks' own would find a core. Without one, theirs wait for each other."""
        return self.device.type != "cpu" or torch.get_num_threads() < self._cores

    def _hear(self, audio_16k: NDArray[np.float32]) -> float:
        """Estimate the pitch of the newest audio; returns the milliseconds it took."""
        started = time.perf_counter()
        self.pitch.update(audio_16k)
        return 1000 * (time.perf_counter() - started)

    def _wait_for_pitch(self) -> None:
        """Wait until the tracker has heard all audio; raises what it raised."""
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            self._pitch_own_ms = hearing.result()

    def _skip_frames(self) -> None:
        """Account for this block's frames without computing them: they count as unvoiced."""
        self._wait_for_pitch()
        self._fill_pitch(self.blocks * self.geometry.block_frames - self.geometry.settle_frames)
        self.primed = self.decoding = False

    def _fill_pitch(self, end: int) -> None:
        """Let frames that nobody estimated, up to `end`, count as unvoiced."""
        missing = max(0, end - self.f0_hz.end)
        self.f0_hz.append(np.zeros(missing, np.float32))
        self.voiced.append(np.zeros(missing, np.bool_))

    def _heard_end(self) -> int:
        """Return the input position that this block's output ends with."""
        return self.blocks * self.geometry.block_samples - self.geometry.lookahead_samples

    def _was_open_since(self, frame: int) -> bool:
        return bool(self.open.rows(max(0, frame), self.open.end).any())

    def _is_silent(self, out_first: int) -> bool:
        """Say whether the gate was closed all over what this block can hear."""
        end = self.blocks * self.geometry.block_frames
        first = max(0, out_first // self.geometry.hop_samples - GATE_MARGIN_FRAMES)
        return not self.open.rows(first, end).any()

    def _track_pitch(self, known: int, settled: int, end: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return frames known .. end; those before settled are kept."""
        self._wait_for_pitch()
        self._fill_pitch(known)
        track = self._pitch_between(known, end)
        final = settled - known
        self.f0_hz.append(track.f0_hz[:final])
        self.voiced.append(track.voiced[:final])
        return track.f0_hz, track.voiced

    def _pitch_between(self, first: int, end: int) -> PitchTrack:
        """Ask the tracker; the newest frame, whose last samples are still in the resampler, repeats the one before."""
        heard = min(end - self.pitch_origin, self.pitch.end_frame)
        track = self.pitch.track(first - self.pitch_origin, heard - (first - self.pitch_origin))
        missing = end - first - len(track)
        return PitchTrack(np.pad(track.f0_hz, (0, missing), mode="edge"), np.pad(track.voiced, (0, missing), mode="edge"))

    def _batch(
        self,
        stream: VoiceStream,
        first: int,
        settled: int,
        units: Tensor,
        f0_hz: NDArray[np.float32],
        voiced: NDArray[np.bool_],
        faders: Faders,
    ) -> FrameBatch:
        """Apply pitch, formant, retrieval and protect, each frame by frame."""
        block_frames = self.geometry.block_frames
        frames = np.arange(first, first + len(units)) - max(0, settled - block_frames)

        def moved(name: str) -> NDArray[np.float32]:
            return faders.per_frame(name, frames, block_frames)

        units = blend_units(stream.voice, units, voiced, moved("index_rate"), moved("protect"))
        f0_hz = transpose(f0_hz, moved("pitch"))
        if self.fill_unvoiced:
            filled = fill_unvoiced(PitchTrack(f0_hz, voiced))
            f0_hz, voiced = filled.f0_hz, filled.voiced
        return FrameBatch(first, settled - first, units, f0_hz, voiced, moved("formant"))

    def _openness(self, first: int, end: int) -> NDArray[np.float32]:
        """Return the gate's gain for output samples: 1 near open frames, ramped over one frame."""
        hop, margin = self.geometry.hop_samples, GATE_MARGIN_FRAMES
        low, high = first // hop - 1, -(-end // hop) + 1
        heard = min(high + margin, self.open.end)
        flags = np.asarray(self.open.rows(low - margin, heard), dtype=np.float32)
        flags = np.pad(flags, (0, high + margin - heard))
        near = np.lib.stride_tricks.sliding_window_view(flags, 2 * margin + 1).max(axis=1)
        if near.all():
            return np.ones(end - first, np.float32)
        centres = (np.arange(low, high) + 0.5) * hop
        gain: NDArray[np.float32] = np.interp(np.arange(first, end), centres, near).astype(np.float32)
        return gain

    def _finish(self, audio: NDArray[np.float32], watch: Stopwatch, *, silent: bool) -> Block:
        """Loudness, output gain, limiter."""
        geometry, now = self.geometry, self.applied
        out_end = self._heard_end() + self.rms_mix.delay_samples
        heard = np.asarray(self.gated.rows(out_end - geometry.block_samples, out_end), dtype=np.float32)
        audio = self.rms_mix.process(heard, audio, now.rms_mix)
        audio = self.limiter.process(self.gain_out.process(audio, now.gain_out + self.stream.gain_db))
        watch.lap("other")
        newest = self.f0_hz.end
        voiced = newest > 0 and bool(self.voiced.rows(newest - 1, newest)[0])
        f0_hz = float(self.f0_hz.rows(newest - 1, newest)[0]) if voiced else 0.0
        timings = watch.timings(self._pitch_own_ms)
        if not silent:
            self.block_ms = timings.total_ms
        return Block(audio.astype(np.float32, copy=False), f0_hz, voiced, silent, timings)


def blend_units(
    voice: Voice, units: Tensor, voiced: NDArray[np.bool_], index_rate: NDArray[np.float32], protect: NDArray[np.float32]
) -> Tensor:
    """Blend rows (T, width), two for each unit, with their neighbours in the voice's index.

    On unvoiced frames with protect < 0.5 only that share of the blend is taken (RVC). index_rate, protect, voiced: (T,).
    """
    if voice.index is None or not index_rate.any():
        return units
    retrieved = voice.index.blend(units[::FRAMES_PER_UNIT], 1.0).repeat_interleave(FRAMES_PER_UNIT, dim=0)
    kept = np.where(voiced | (protect >= 0.5), 1.0, protect).astype(np.float32)
    rate = torch.from_numpy(index_rate * kept).to(units.device)[:, None]
    return units + (retrieved[: len(units)] - units) * rate
