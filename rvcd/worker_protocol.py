"""What the control process and the worker say to each other: one JSON object a message. Stdlib only.

Audio, parameters and telemetry do not travel here: they lie in the shared segment.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rvcd.geometry import StreamGeometry

MAX_MESSAGE_BYTES = 65536


@dataclass(frozen=True)
class VoiceRequest:
    """A voice to load. index "": none. speaker: 0.. of a multi-speaker voice. gain_db: on top of gain_out, this voice's own."""

    name: str
    path: str
    index: str = ""
    speaker: int = 0
    gain_db: float = 0.0


@dataclass(frozen=True)
class WorkerSetup:
    """Everything a worker needs to know, sent once, first. Sizes as in StreamGeometry.

    encoder "": the test weights. voice None: start without one. test_weights_cache: where those are written.
    keep_loaded: voices that stay in memory.
    """

    rate_hz: int
    block_frames: int
    lookahead_frames: int
    context_frames: int
    deadline_samples: int
    encoder: str
    voice: VoiceRequest | None
    f0_method: str
    rmvpe: str = ""
    fill_unvoiced: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 0
    seed: int = 0
    test_weights_cache: str = ""
    keep_loaded: int = 3

    def with_geometry(self, geometry: StreamGeometry) -> WorkerSetup:
        """Return the same for a stream of other sizes."""
        return replace(
            self, rate_hz=geometry.rate_hz, block_frames=geometry.block_frames, lookahead_frames=geometry.lookahead_frames,
            context_frames=geometry.context_frames, deadline_samples=geometry.deadline_samples,
        )  # fmt: skip

    @property
    def geometry(self) -> StreamGeometry:
        """The stream's sizes."""
        return StreamGeometry(self.rate_hz, self.block_frames, self.lookahead_frames, self.context_frames, self.deadline_samples)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> WorkerSetup:
        voice = fields.get("voice")
        return cls(**{**fields, "voice": VoiceRequest(**voice) if voice else None})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# Commands to the worker: {"command": "setup", "setup": {...}} with the descriptor of the shared segment,
# {"command": "voice", "id": n, "voice": {...}}, {"command": "f0_method", "id": n, "name": ...},
# {"command": "prepare", "id": n, "setup": {...}} (for other sizes of the stream), {"command": "resize", "id": n} (use them),
# {"command": "flush"}, {"command": "stop"}.
# Events from it: {"event": "ready"}, {"event": "log", "level": ..., "text": ...},
# {"event": "result", "id": n, "error": "" or a sentence, "name": ..., "speakers": names of the voice's speakers}.


def send(channel: socket.socket, message: Mapping[str, Any], *, fd: int | None = None) -> None:
    """Send one message, and a file descriptor with it if one is given. Raises OSError when the other side is gone."""
    socket.send_fds(channel, [json.dumps(message).encode()], [] if fd is None else [fd])


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """Wait for one message; None when the other side is gone."""
    message, _ = receive_with_fd(channel)
    return message


def receive_with_fd(channel: socket.socket) -> tuple[dict[str, Any] | None, int | None]:
    """Wait for one message; None when the other side is gone. And the file descriptor that came with it, if one did."""
    try:
        data, fds, _, _ = socket.recv_fds(channel, MAX_MESSAGE_BYTES, 1)
    except OSError:
        return None, None
    if not data:
        return None, None
    return json.loads(data), fds[0] if fds else None
