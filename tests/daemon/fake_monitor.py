"""A monitor process that plays what it is told to: `python -m tests.daemon.fake_monitor WAY CHANNEL_FD`.

WAY: play; silent (opens, and its device never calls); hang (never says a word); die (at once); missing (twice, then plays);
babble (sends what is no message).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Any

import numpy as np

from rvcd.ipc._native import ffi, lib
from rvcd.ipc.channel import Channel
from rvcd.ipc.messages import MonitorMissing, MonitorOpened, OpenMonitor, ToMonitor
from rvcd.ipc.segment import AudioSegment

EXIT_STATUS = 3


def play(segment: AudioSegment) -> None:
    """Call as a device does, so that the samples are counted."""
    stream = lib.rvcd_monitor_stream_new(segment.hold(), 1)
    lib.rvcd_monitor_stream_set_drift(stream, lib.rvcd_drift_new(48000, 48000, 4800))
    played = np.empty(480, np.float32)
    while True:
        out = ffi.from_buffer("float[]", played, require_writable=True)
        lib.rvcd_pa_monitor(ffi.NULL, out, len(played), ffi.NULL, 0, stream)
        time.sleep(0.01)


def main() -> None:
    way = sys.argv[1]
    sock = socket.socket(fileno=int(sys.argv[2]))
    channel: Channel[Any] = Channel(sock, ToMonitor)
    descriptor, request = channel.receive_descriptor(), channel.receive()
    assert descriptor is not None and isinstance(request, OpenMonitor)
    segment = AudioSegment.attach(descriptor)

    def end() -> None:
        channel.receive()
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    if way == "die":
        os._exit(EXIT_STATUS)
    if way == "babble":
        sock.sendall(b"\xff" * 64)
    if way == "missing":
        for _ in range(2):
            channel.send(MonitorMissing(f"{request.device!r} was not found"))
            time.sleep(0.05)
    if way in ("play", "missing", "silent"):
        sink = os.environ.get("PULSE_SINK", "no sink")
        channel.send(MonitorOpened(f"{request.device} by {sink}", 20.0))
    if way in ("play", "missing"):
        play(segment)
    threading.Event().wait()


if __name__ == "__main__":
    main()
