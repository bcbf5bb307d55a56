"""The monitor process, started by daemon.monitor_process.MonitorProcess with the number of its channel.

It reads the rings of the shared segment, behind the audio path's back, and plays on a device of its own. A device that stalls,
a sound server that hangs, a PortAudio that aborts: here that costs nobody else anything, and the control process starts another
one. While its device is missing it looks for it again and again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from rvcd.audio.monitor_stream import JACK_CLIENT_NAME, MonitorStream
from rvcd.audio.portaudio import LIBRARY
from rvcd.errors import AudioDeviceError
from rvcd.ipc.channel import Channel
from rvcd.ipc.messages import MonitorMissing, MonitorOpened, OpenMonitor, ToMonitor
from rvcd.ipc.segment import AudioSegment

LOOK_AGAIN_S = 2.0


def play(segment: AudioSegment, channel: Channel[Any], request: OpenMonitor) -> None:
    """Open the device as soon as it is there, and say so; from then on its own thread plays."""
    while True:
        try:
            stream = MonitorStream(segment, request.device, request.host_api, request.period_samples, request.chunk_s)
            break
        except AudioDeviceError as error:
            channel.send(MonitorMissing(str(error)))
        time.sleep(LOOK_AGAIN_S)
    try:
        stream.start()
    except AudioDeviceError as error:
        channel.send(MonitorMissing(str(error)))
        return  # a fresh process tries again
    channel.send(MonitorOpened(stream.description, stream.latency_ms))
    threading.Event().wait()


def end_with(channel: Channel[Any]) -> None:
    """End this process when it is told to, or nobody is there any more to tell it. Nothing is closed: closing may hang."""
    channel.receive()
    os._exit(0)


def main() -> None:
    # Ctrl-C and systemd reach the whole group; the control process says when to stop, or ends, which says it too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel: Channel[Any] = Channel(socket.socket(fileno=int(sys.argv[1])), ToMonitor)
    descriptor = channel.receive_descriptor()
    request = channel.receive() if descriptor is not None else None
    if descriptor is None or not isinstance(request, OpenMonitor):
        return
    threading.Thread(target=end_with, args=(channel,), name="rvcd-monitor-end", daemon=True).start()
    segment = AudioSegment.attach(descriptor)
    segment.lock_memory()  # where that is refused, the control process has said so of its own
    LIBRARY.jack_client_name = JACK_CLIENT_NAME
    with contextlib.suppress(OSError):  # the control process is gone
        play(segment, channel, request)
    os._exit(1)
