"""Every size of the stream, computed once, in frames and samples. Nothing else divides by 100."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rvcd.errors import ParamError

FRAMES_PER_SECOND = 100
FRAME_MS = 10.0
FRAMES_PER_UNIT = 2
"""A content unit covers two frames (20 ms)."""
ENCODER_RATE_HZ = 16000
ENCODER_HOP_SAMPLES = ENCODER_RATE_HZ // FRAMES_PER_SECOND
LOUDNESS_FRAMES = 2
"""The part of the lookahead that the loudness match needs: half of its 40 ms window (dsp.loudness.RmsMix)."""
SYNTHESIS_TAIL_MS = 16.0
"""What the decoder's carried state and the output resampler may add, at most, for any voice: a constant, so that the latency
does not change with the voice. Decoders measure 9..14 ms, the resampler 0.8 ms."""

DENOISE_WINDOW_MS = 32.0
"""The part of the denoiser's delay that its network needs: a window of 512 samples at 16 kHz."""
DENOISE_RESAMPLER_SAMPLES = 34
"""What each of the denoiser's two resamplers holds back, at most, in samples of its lower rate."""

MIN_RATE_HZ, MAX_RATE_HZ = 8000, 192000
MAX_BLOCK_MS = 2000
MIN_LOOKAHEAD_MS, MAX_LOOKAHEAD_MS = 40, 1000
MAX_CONTEXT_MS = 30000
MIN_PAST_MS = 40
LIVE_MAX_BLOCK_MS = 1000
LIVE_MAX_LOOKAHEAD_MS = 400
"""What the configuration allows of a live stream. A deadline is a block at most."""
LIVE_MAX_DENOISE_MS = 41
"""denoise_samples() at MIN_RATE_HZ."""
LIVE_MAX_LATENCY_MS = (
    LIVE_MAX_BLOCK_MS + LIVE_MAX_LOOKAHEAD_MS + math.ceil(SYNTHESIS_TAIL_MS) + LIVE_MAX_DENOISE_MS + LIVE_MAX_BLOCK_MS
)
"""The latency of the longest live stream: block, lookahead, tail, denoiser and deadline. The rings of an AudioSegment hold it."""


def denoise_samples(rate_hz: int) -> int:
    """Return by how many samples the denoiser's output is behind its input, at any cut into blocks: a constant of the rate."""
    resampling = 0.0 if rate_hz == ENCODER_RATE_HZ else 2 * DENOISE_RESAMPLER_SAMPLES * rate_hz / min(rate_hz, ENCODER_RATE_HZ)
    return math.ceil(DENOISE_WINDOW_MS * rate_hz / 1000 + resampling) + 2  # each resampler rounds to a whole sample


@dataclass(frozen=True)
class StreamGeometry:
    """Sizes of one stream.

    rate_hz: the stream's sample rate, a multiple of 100 in 8000..192000. block_frames: frames per inference step, even.
    lookahead_frames: how far the voice is made behind the newest frame, even, >= 4: what a frame may see of the future before it
    is final (settle_frames), and the loudness match's share. context_frames: past that is seen again, even.
    deadline_samples: time allowed to compute one block, 1..block_samples. denoise_samples: a denoiser's delay, 0: none is loaded.
    """

    rate_hz: int
    block_frames: int
    lookahead_frames: int
    context_frames: int
    deadline_samples: int
    denoise_samples: int = 0

    @classmethod
    def from_ms(
        cls,
        *,
        rate_hz: int,
        block_ms: float,
        lookahead_ms: float,
        deadline_ms: float,
        context_ms: float,
        denoiser: bool = False,
    ) -> StreamGeometry:
        """Build from milliseconds. Raises ParamError, naming value and bound, for what the engine cannot do.

        context_ms: all that the content encoder sees at once: block, lookahead, and the past before them.
        denoiser: whether one is loaded.
        """
        if rate_hz % FRAMES_PER_SECOND or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise ParamError(
                f"the sample rate {rate_hz} Hz cannot be used; it must be a multiple of {FRAMES_PER_SECOND} Hz "
                f"in {MIN_RATE_HZ}..{MAX_RATE_HZ} (for example 48000 or 44100)"
            )
        block = _whole_units("block_ms", block_ms, FRAME_MS * FRAMES_PER_UNIT, MAX_BLOCK_MS)
        lookahead = _whole_units("lookahead_ms", lookahead_ms, MIN_LOOKAHEAD_MS, MAX_LOOKAHEAD_MS)
        newest_ms = (block + lookahead) * FRAME_MS
        context = _whole_units("context_ms", context_ms, newest_ms + MIN_PAST_MS, MAX_CONTEXT_MS) - block - lookahead
        if not 0 < deadline_ms <= block_ms:
            raise ParamError(
                f"deadline_ms = {deadline_ms:g} is out of range; it takes more than 0, at most block_ms = {block_ms:g}"
            )
        deadline = max(1, round(deadline_ms * rate_hz / 1000))
        return cls(rate_hz, block, lookahead, context, deadline, denoise_samples(rate_hz) if denoiser else 0)

    @property
    def hop_samples(self) -> int:
        """Samples of one frame at the stream's rate."""
        return self.rate_hz // FRAMES_PER_SECOND

    @property
    def block_samples(self) -> int:
        return self.block_frames * self.hop_samples

    @property
    def tail_samples(self) -> int:
        return -int(-SYNTHESIS_TAIL_MS * self.rate_hz // 1000)

    @property
    def settle_frames(self) -> int:
        """Future frames after which a frame's units, pitch and latents are final."""
        return self.lookahead_frames - LOUDNESS_FRAMES

    @property
    def lookahead_samples(self) -> int:
        """How far the voice is made behind what the engine hears: lookahead and the synthesis tail."""
        return self.lookahead_frames * self.hop_samples + self.tail_samples

    @property
    def delay_samples(self) -> int:
        """How far the engine's output is behind its input: what the engine hears is denoise_samples old."""
        return self.lookahead_samples + self.denoise_samples

    @property
    def latency_samples(self) -> int:
        """Output sample n is input sample n - latency_samples (the device's own buffers come on top)."""
        return self.block_samples + self.delay_samples + self.deadline_samples

    @property
    def window_frames(self) -> int:
        """Frames the content encoder sees at once."""
        return self.context_frames + self.block_frames + self.lookahead_frames

    def ms(self, samples: int) -> float:
        """Return samples as milliseconds."""
        return 1000.0 * samples / self.rate_hz


def _whole_units(name: str, value_ms: float, low_ms: float, high_ms: float) -> int:
    unit_ms = FRAME_MS * FRAMES_PER_UNIT
    if value_ms != value_ms or not low_ms <= value_ms <= high_ms or value_ms % unit_ms:
        raise ParamError(
            f"{name} = {value_ms:g} is out of range; it takes a multiple of {unit_ms:g} ms in {low_ms:g}..{high_ms:g}"
        )
    return round(value_ms / FRAME_MS)
