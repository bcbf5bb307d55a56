"""What `rvcd measure-latency` prints: measured against published, and what to keep."""

from __future__ import annotations

from dataclasses import dataclass

from rvcd.measuring.measurement import Measurement

ROUNDING_MS = 0.05


@dataclass(frozen=True)
class Published:
    """The published latency in its parts, milliseconds. offset_ms: what of the device's parts is audio.latency_offset_ms."""

    device_in_ms: float
    block_ms: float
    lookahead_ms: float
    deadline_ms: float
    device_out_ms: float
    offset_ms: float = 0.0
    denoise_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        parts = (self.device_in_ms, self.block_ms, self.denoise_ms, self.lookahead_ms, self.deadline_ms, self.device_out_ms)
        return sum(parts)


@dataclass(frozen=True)
class Report:
    """measured: the way round. own_ms: block, denoiser, lookahead, tail and deadline where the way round does not contain them.

    ends_ms: of the device's both ends, by the server's word, where the way round does not contain them.
    """

    way: str
    device: str
    measured: Measurement
    published: Published
    period_ms: float
    own_ms: float = 0.0
    ends_ms: tuple[float, float] = (0.0, 0.0)

    @property
    def total_ms(self) -> float:
        return self.measured.delay_ms + self.own_ms + sum(self.ends_ms)

    @property
    def difference_ms(self) -> float:
        return self.total_ms - self.published.total_ms

    @property
    def is_within_a_period(self) -> bool:
        return abs(self.difference_ms) <= self.period_ms + ROUNDING_MS

    @property
    def offset_ms(self) -> float:
        """What audio.latency_offset_ms has to be, so that what is published is what was measured."""
        return round(self.published.offset_ms + self.difference_ms, 1)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        published = self.published
        return {
            "way": self.way, "device": self.device, "measured_ms": self.total_ms, "through_ms": self.measured.delay_ms,
            "ends_ms": list(self.ends_ms), "own_ms": self.own_ms, "spread_ms": self.measured.spread_ms,
            "delays_ms": list(self.measured.delays_ms), "correlation": self.measured.correlation,
            "published_ms": published.total_ms, "device_in_ms": published.device_in_ms, "block_ms": published.block_ms,
            "denoise_ms": published.denoise_ms, "lookahead_ms": published.lookahead_ms, "deadline_ms": published.deadline_ms,
            "device_out_ms": published.device_out_ms, "difference_ms": self.difference_ms, "period_ms": self.period_ms,
            "latency_offset_ms": self.offset_ms,
        }  # fmt: skip

    def _parts(self) -> list[str]:
        round_ms, (in_ms, out_ms) = self.measured.delay_ms, self.ends_ms
        if self.own_ms:
            return [f"            device {round_ms:.2f} + rvcd, computed {self.own_ms:.2f}"]
        if in_ms or out_ms:
            return [
                f"            through rvcd {round_ms:.2f} + the server's word for the ends,",
                f"            in {in_ms:.2f} and out {out_ms:.2f}",
            ]
        return []

    def lines(self) -> list[str]:
        """For people; none is longer than 80 columns unless a device's name is."""
        published, measured = self.published, self.measured
        lines = [
            f"device      {self.device}",
            f"way         {self.way}",
            f"measured    {self.total_ms:8.2f} ms  ({len(measured.delays_ms)} chirps, spread {measured.spread_ms:.2f} ms, "
            f"correlation {measured.correlation:.2f})",
            *self._parts(),
            f"published   {published.total_ms:8.2f} ms",
            f"            device in {published.device_in_ms:.2f} + block {published.block_ms:.2f} + lookahead "
            f"{published.lookahead_ms:.2f}",
            *([f"            + denoiser {published.denoise_ms:.2f}"] if published.denoise_ms else []),
            f"            + deadline {published.deadline_ms:.2f} + device out {published.device_out_ms:.2f}",
            f"difference  {self.difference_ms:+8.2f} ms, {'within' if self.is_within_a_period else 'more than'} a period "
            f"({self.period_ms:.2f} ms)",
        ]
        if abs(self.difference_ms) >= 0.1:
            lines += ["", "to publish what was measured, put into the configuration:", "[audio]"]
            lines.append(f"latency_offset_ms = {self.offset_ms:.1f}")
        return lines
