"""Where in the stream the newest block lies. The only place that adds the loudness match's delay to anything."""

from __future__ import annotations

from dataclasses import dataclass

from rvcd.geometry import StreamGeometry


@dataclass
class Timeline:
    """Frames and samples are counted from the last reset; frame t covers input samples t * hop .. (t + 1) * hop.

    loudness_delay_samples: how long the loudness match holds the voice back. The voice is made that much earlier than it is
    heard, so that what is heard is geometry.lookahead_samples behind what the engine hears (which a denoiser delivers late).
    blocks: taken so far.
    """

    geometry: StreamGeometry
    loudness_delay_samples: int
    blocks: int = 0

    @property
    def end(self) -> int:
        """The frame after the newest block's last."""
        return self.blocks * self.geometry.block_frames

    @property
    def settled(self) -> int:
        """Frames before it are final; those from it on are the lookahead. Negative where a stream begins."""
        return self.end - self.geometry.settle_frames

    @property
    def settled_before(self) -> int:
        """What `settled` was a block ago, at least 0."""
        return max(0, self.settled - self.geometry.block_frames)

    @property
    def window_first(self) -> int:
        """The first frame that the content encoder sees together with the newest."""
        return max(0, self.end - self.geometry.window_frames)

    @property
    def voice_first(self) -> int:
        """The first sample that the voice has to make for the newest block. Negative where a stream begins."""
        return self.voice_end - self.geometry.block_samples

    @property
    def voice_end(self) -> int:
        """The sample after the last one that the voice has to make for the newest block."""
        heard_end = self.blocks * self.geometry.block_samples - self.geometry.lookahead_samples
        return heard_end + self.loudness_delay_samples

    @property
    def voice_frame(self) -> int:
        """The frame that voice_first lies in, at least 0."""
        return max(0, self.voice_first) // self.geometry.hop_samples
