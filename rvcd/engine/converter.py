"""The converter: one block of microphone in, one block of voice out, `geometry.delay_samples` later. Read process()."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rvcd.engine.denoiser import Denoiser
from rvcd.engine.device_link import LinkMaker, link_to
from rvcd.engine.dsp.direct_current import OffsetFilter
from rvcd.engine.dsp.history_buffer import HistoryBuffer
from rvcd.engine.dsp.loudness import GainRamp, Gate, Limiter, RmsMix
from rvcd.engine.dsp.resample import StreamResampler
from rvcd.engine.errors import EngineError
from rvcd.engine.gate_history import GateHistory
from rvcd.engine.graphs import Graphs
from rvcd.engine.live_voice import LiveVoice, Phase
from rvcd.engine.pitch import PitchMethod, PitchTrack, PitchTracker
from rvcd.engine.pitch.autotune import A4_HZ
from rvcd.engine.pitch.history import PitchHistory
from rvcd.engine.shaper import Shaper
from rvcd.engine.stopwatch import Stopwatch, Timings
from rvcd.engine.timeline import Timeline
from rvcd.engine.units import ContentEncoder, UnitStreams
from rvcd.engine.voice_stream import KEPT_LATENT_FRAMES, Voice, VoiceStream
from rvcd.engine.voice_switch import VoiceSwitch, crossfade
from rvcd.geometry import ENCODER_RATE_HZ, FRAMES_PER_UNIT, StreamGeometry
from rvcd.params import Snapshot
from rvcd.yielding import is_yielding, yield_point

__all__ = ["Block", "Converter", "EngineError"]

ENCODER_MEMORY_FRAMES = 128
"""What a content encoder's positional convolution reaches back, whatever the context."""
STEADY_AGAIN_BLOCKS = 6
"""A step is recorded at the third time that it is the same."""
AFTER_SILENCE_FRAMES = 6
"""Frames decoded and thrown away where the gate opens: it is seen to open more frames than that before it is heard, so that the
decoder's left context (11.4 frames) is real by then."""


@dataclass(frozen=True)
class Block:
    """One converted block. audio (block_samples,) float32 in -1..1. f0_hz of the newest final frame, before transposing.

    silent: the gate was closed all over what can be heard of it.
    """

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
        encoder: ContentEncoder | None,
        pitch: PitchTracker,
        voice: Voice,
        *,
        speaker_id: int = 0,
        gain_db: float = 0.0,
        seed: int = 0,
        fill_unvoiced: bool = False,
        a4_hz: float = A4_HZ,
        window: bool = False,
        snapshot: Snapshot | None = None,
        denoiser: Denoiser | None = None,
        device: str = "cpu",
        link: LinkMaker = link_to,
        graphs: Graphs | None = None,
        keep_warm: bool = False,
    ) -> None:
        """encoder: of voices that bring none of their own; None: all do. gain_db: the voice's own, on top of gain_out.

        fill_unvoiced: interpolate f0 through unvoiced frames for the generator (RVC of 2026) instead of leaving them so.
        a4_hz: what autotune calls A4.
        window: let the content encoder go over its whole window for each block instead of remembering (engine.context).
        graphs: whether steps are recorded; None: they are not. keep_warm: as engine.keep_warm.
        denoiser: of this stream alone. Raises ValueError where its delay is not the geometry's denoise_samples.
        """
        if (denoiser.delay_samples if denoiser is not None else 0) != geometry.denoise_samples:
            raise ValueError("the denoiser's delay is not the geometry's")
        self.geometry, self.seed = geometry, seed
        self.encoder, self.device, self._link = encoder, torch.device(device), link
        self.graphs = graphs or Graphs()
        self._ember = torch.zeros(1, device=self.device) if keep_warm and self.device.type != "cpu" else None
        self.denoiser = denoiser
        self._cores = len(os.sched_getaffinity(0))

        rate_hz, frames = geometry.rate_hz, geometry.window_frames + 2 * geometry.block_frames
        self.offset, self.gain_in, self.gate = OffsetFilter(rate_hz), GainRamp(rate_hz), Gate(rate_hz)
        self.to_encoder = StreamResampler(rate_hz, ENCODER_RATE_HZ, geometry.block_samples)
        self.rms_mix, self.gain_out, self.limiter = RmsMix(rate_hz), GainRamp(rate_hz), Limiter(rate_hz)
        self.gated = HistoryBuffer(frames * geometry.hop_samples)
        self.opened = GateHistory(geometry.hop_samples, frames)

        self.timeline = Timeline(geometry, self.rms_mix.delay_samples)
        self.pitch = PitchHistory(pitch, frames)
        self.units = UnitStreams(encoder, geometry, self.device, window=window, link=link, graphs=self.graphs, pitch=self.pitch)
        self.shaper = Shaper(
            geometry.block_frames, snapshot or Snapshot(), fill_unvoiced=fill_unvoiced, capacity_frames=frames, a4_hz=a4_hz
        )
        self.live = LiveVoice(self.new_stream(voice, speaker_id, gain_db))
        self.switch = VoiceSwitch(self.live, self.timeline, self.units, self.pitch, self.shaper)
        self.reset()

    @property
    def stream(self) -> VoiceStream:
        """The stream of the voice that is heard."""
        return self.live.stream

    @property
    def voice(self) -> Voice:
        """The voice that is heard."""
        return self.live.voice

    @property
    def applied(self) -> Snapshot:
        """The parameters with which the last block ended."""
        return self.shaper.applied

    @property
    def blocks(self) -> int:
        """Blocks taken since the last reset."""
        return self.timeline.blocks

    @property
    def block_ms(self) -> float:
        """What the last block that was heard took to compute; 0: none was."""
        return self.live.block_ms

    def new_stream(self, voice: Voice, speaker_id: int = 0, gain_db: float = 0.0) -> VoiceStream:
        """Return a voice's stream, for switch.begin(). May run on any thread."""
        return VoiceStream(
            voice, self.geometry, seed=self.seed, speaker_id=speaker_id, gain_db=gain_db, link=self._link, graphs=self.graphs
        )

    @property
    def steady_blocks(self) -> int:
        """After so many blocks of speech in a row everything that is remembered is full, and steps could be recorded."""
        geometry = self.geometry
        frames = geometry.window_frames + geometry.context_frames + ENCODER_MEMORY_FRAMES + KEPT_LATENT_FRAMES
        return -(-frames // geometry.block_frames) + STEADY_AGAIN_BLOCKS

    @torch.inference_mode()
    def rehearse(self, stream: VoiceStream) -> None:
        """Let a new voice's steps be recorded, if steps are at all: on made-up frames, which it then forgets. On any thread."""
        if self.graphs.recorder is None:
            return
        now, width = Timeline(self.geometry, self.rms_mix.delay_samples), stream.unit_width
        units = torch.zeros((2 * self.geometry.window_frames, width), device=self.device)
        with self.graphs.rehearsal():
            for _ in range(self.steady_blocks):
                yield_point()
                now.blocks += 1
                if now.voice_end <= 0:
                    continue
                first, count = now.settled_before, now.end - now.settled_before
                pitch = PitchTrack(np.full(count, 200, np.float32), np.ones(count, np.bool_))
                stream.feed(self.shaper.batch_of_nothing(stream.voice, first, now.settled, units[:count], pitch))
                stream.samples(max(0, now.voice_first), now.voice_end)
        stream.restart(0)

    def use_pitch(self, method: PitchMethod) -> None:
        """Use another pitch method from the next block on, over the audio already heard."""
        tracker = PitchTracker(method, lookahead_frames=self.geometry.settle_frames)
        self.pitch.use(tracker, self.units.first_frame, self.units.audio_since)

    def reset(self) -> None:
        """Forget all audio. Parameters and the voice stay, or the voice that is on its way in takes its place."""
        for part in (self.pitch, self.shaper, self.units, self.to_encoder, self.offset, self.gate, self.gain_in, self.gain_out,
                     self.rms_mix, self.limiter, self.gated, self.opened):  # fmt: skip
            part.reset()
        if self.denoiser is not None:
            self.denoiser.reset()
        self.timeline.blocks = 0
        self.switch.complete()
        self.live.phase = Phase.IDLE
        self.live.stream.restart(0)

    def recover(self) -> None:
        """After a block that raised: keep the audio context and the place in the stream, start the voice afresh."""
        with contextlib.suppress(Exception):
            self.pitch.wait()
        self.live.phase = Phase.IDLE

    def absorb(self, block: NDArray[np.float32], snapshot: Snapshot) -> None:
        """Take a block as context only: its output is not wanted (it came too late). No network runs but the denoiser's.

        Raises EngineError where that fails.
        """
        self._take_audio(block, snapshot, Stopwatch())
        self._skip_frames()
        self.shaper.move_to(snapshot)

    @torch.inference_mode()
    def process(self, block: NDArray[np.float32], snapshot: Snapshot) -> Block:
        """Convert one block (block_samples,) and return the one that ends delay_samples before its end.

        Parameters move within the block to the values of this snapshot (see Faders). Raises EngineError when the
        networks give no numbers; call recover() then.
        """
        watch = Stopwatch()
        self.shaper.move_to(snapshot)
        self._take_audio(block, snapshot, watch)
        now, live, phase = self.timeline, self.live, self._phase_of_block()
        if phase is Phase.IDLE:
            if self._ember is not None:
                self._ember.add_(1)
            self._skip_frames()
            self.switch.complete()
            return self._finish(self._silence(), phase, watch)

        tail = self.switch.take_over(phase)
        stream, first = live.stream, now.settled_before
        if live.phase is Phase.IDLE:
            first = self._first_frame_of(stream)
            stream.restart(now.voice_frame)
        if told := self.units.hear_pitch(stream.voice):
            self.pitch.settle(now.settled_before, now.settled)
            watch.lap("pitch")
        units = self.units.per_frame(first, now.end, stream.voice)
        watch.lap("encode")
        yield_point()
        if not told:
            self.pitch.settle(now.settled_before, now.settled)
        pitch = self.pitch.frames(first, now.end)
        watch.lap("pitch")
        stream.feed(self.shaper.batch(stream.voice, first, now.settled, units, pitch), watch)
        watch.lap("prior")
        yield_point()

        before, live.phase = live.phase, phase
        if phase is Phase.FOLLOWING:
            return self._finish(self._silence(), phase, watch)
        if before is Phase.FOLLOWING:
            stream.start_decoding(now.voice_frame, AFTER_SILENCE_FRAMES)
        audio = crossfade(tail, self._samples_of(stream, watch))
        if not np.isfinite(audio).all():
            raise EngineError("the voice's networks gave NaN or infinite samples")
        return self._finish(audio * self.opened.gain(now.voice_first, now.voice_end), phase, watch)

    def _take_audio(self, block: NDArray[np.float32], snapshot: Snapshot, watch: Stopwatch) -> None:
        """Offset, gain, denoiser, gate, and every place that keeps audio; the pitch begins to be estimated.

        Raises EngineError where the denoiser fails, after the block has been taken as silence: the next one follows in its place.
        """
        heard = self.gain_in.process(self.offset.process(block), snapshot.gain_in)
        if self.denoiser is not None:
            watch.lap("other")
            heard = self.denoiser.process(heard, snapshot.denoise)
            watch.lap("denoise")
            yield_point()
        gated = self.gate.process(heard, snapshot.gate)
        self.gated.append(gated)
        self.opened.append(self.gate.open)
        watch.lap("other")
        audio_16k = self.to_encoder.process(gated)
        watch.lap("resample")
        self.units.push(audio_16k)
        self.timeline.blocks += 1
        watch.lap("other")
        # The pitch needs nothing of the content encoder: it is estimated beside it where a core is spare.
        self.pitch.hear(audio_16k, aside=self._has_spare_core())
        watch.lap("pitch")
        if self.denoiser is not None and self.denoiser.fault:
            raise EngineError(self.denoiser.fault)

    def _has_spare_core(self) -> bool:
        """Say whether a thread beside the networks' own would find a core. Without one, theirs wait for each other.

        Never where this thread yields to another: the thread beside it would not.
        """
        if is_yielding():
            return False
        return self.device.type != "cpu" or torch.get_num_threads() < self._cores

    def _phase_of_block(self) -> Phase:
        """Return how much has to run for the newest block."""
        now = self.timeline
        if now.voice_end <= 0:
            return Phase.IDLE
        if self.opened.any_near(now.voice_first):
            return Phase.SPEAKING
        return Phase.FOLLOWING if self.opened.any_since(now.window_first) else Phase.IDLE

    def _skip_frames(self) -> None:
        """Account for the newest block's frames without computing them."""
        self.pitch.skip_to(self.timeline.settled)
        self.live.phase = Phase.IDLE

    def _first_frame_of(self, stream: VoiceStream) -> int:
        """Return the frame with which a stream begins afresh: what lies before was silence, or is not worth a late block."""
        now = self.timeline
        wanted = min(now.settled_before, now.voice_frame - stream.start_frames)
        return max(now.window_first, wanted // FRAMES_PER_UNIT * FRAMES_PER_UNIT)

    def _samples_of(self, stream: VoiceStream, watch: Stopwatch) -> NDArray[np.float32]:
        """Return the voice's next block (block_samples,); zeros where a stream has not begun."""
        now, audio = self.timeline, self._silence()
        audio[max(0, -now.voice_first) :] = stream.samples(max(0, now.voice_first), now.voice_end, watch)
        return audio

    def _silence(self) -> NDArray[np.float32]:
        return np.zeros(self.geometry.block_samples, np.float32)

    def _finish(self, audio: NDArray[np.float32], phase: Phase, watch: Stopwatch) -> Block:
        """Loudness, output gain, limiter."""
        now, applied = self.timeline, self.applied
        gated = np.asarray(self.gated.rows(now.voice_first, now.voice_end), dtype=np.float32)
        audio = self.rms_mix.process(gated, audio, applied.rms_mix)
        audio = self.limiter.process(self.gain_out.process(audio, applied.gain_out + self.live.stream.gain_db))
        watch.lap("other")
        f0_hz, voiced = self.pitch.newest()
        timings = watch.timings(self.pitch.spent_ms)
        if phase is Phase.SPEAKING:
            self.live.block_ms = timings.total_ms
        return Block(audio.astype(np.float32, copy=False), f0_hz, voiced, phase is not Phase.SPEAKING, timings)
