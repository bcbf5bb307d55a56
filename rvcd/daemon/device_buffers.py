"""What is published of the device's own delay: what the audio system says, and what was measured beyond it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceBuffers:
    """Milliseconds, none below 0. offset_ms: what of the configured offset is contained in the other two."""

    in_ms: float
    out_ms: float
    offset_ms: float


NO_BUFFERS = DeviceBuffers(0.0, 0.0, 0.0)


def device_buffers(input_ms: float, output_ms: float, offset_ms: float) -> DeviceBuffers:
    """Add the offset to the output, whose word is the less sure one; below 0 it is taken from the input, as far as 0."""
    in_ms, out_ms = max(0.0, input_ms), max(0.0, output_ms)
    out_with = out_ms + offset_ms
    in_with = in_ms + min(0.0, out_with)
    after = DeviceBuffers(max(0.0, in_with), max(0.0, out_with), 0.0)
    return DeviceBuffers(after.in_ms, after.out_ms, after.in_ms + after.out_ms - in_ms - out_ms)
