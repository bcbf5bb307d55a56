"""A worker without networks: `python -m tests.daemon.fake_worker BEHAVIOUR CHANNEL_FD`. It applies all that it is asked for.

A voice called "Broken" cannot be loaded, one called "Deadly" ends it, one called "Slow" takes until a file called "go" is there.
BEHAVIOUR: "obedient"; "failing" (ends before it is ready); "babbling" (says what is no message); "silent" (its loop goes on, but
nothing is reported after the first report); "hanging" (its loop stops, its reports go on).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from rvcd.ipc.channel import Channel
from rvcd.ipc.messages import Cut, Flush, LogLine, Report, Start, Stop, ToWorker, Want, Wanted
from rvcd.ipc.segment import AudioSegment
from rvcd.ipc.worker_stats import WorkerStats

SIGN_OF_LIFE_S = 0.2


class FakeWorker:
    def __init__(self, channel: Channel[Any], start: Start) -> None:
        self.channel = channel
        self.report = Report(-1, Wanted(None, 0, "", start.wanted.latency), {}, "", ("first", "second"))
        self.bring_about(start.wanted)

    def bring_about(self, wanted: Wanted) -> None:
        voice, errors, applied = wanted.voice, {}, self.report.applied
        name = voice.name if voice is not None else ""
        if voice is not None and name == "Deadly":
            os._exit(11)
        while voice is not None and name == "Slow" and not Path(voice.path).with_name("go").exists():
            time.sleep(0.02)
        if name == "Broken":
            errors["voice"] = "broken.pth: is cut short"
        else:
            applied = replace(applied, voice=voice, speaker=wanted.speaker)
        applied = replace(applied, f0_method=wanted.f0_method)
        if wanted.latency != applied.latency:
            self.channel.send(replace(self.report, applied=applied, prepared=wanted.latency))
            while not isinstance(message := self.channel.receive(), Cut):
                if message is None or isinstance(message, Stop):
                    sys.exit(0)
                if isinstance(message, Want):
                    self.bring_about(message.wanted)
                    return
            applied = replace(applied, latency=message.latency)
        self.report = replace(self.report, revision=wanted.revision, applied=applied, errors=errors, prepared="")
        self.channel.send(self.report)

    def serve(self, behaviour: str) -> None:
        while True:
            if not self.channel.comes_within(SIGN_OF_LIFE_S):
                if behaviour != "silent":
                    self.channel.send(self.report)
                continue
            message = self.channel.receive()
            if isinstance(message, Want):
                self.bring_about(message.wanted)
            elif isinstance(message, Flush):
                self.channel.send(LogLine("info", "flushed"))
            elif not isinstance(message, Cut):
                return


def main() -> None:
    behaviour, sock = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    channel: Channel[Any] = Channel(sock, ToWorker)
    descriptor, start = channel.receive_descriptor(), channel.receive()
    if behaviour == "failing" or descriptor is None or not isinstance(start, Start):
        sys.exit(3 if behaviour == "failing" else 2)
    segment, hanging = AudioSegment.attach(descriptor), threading.Event()
    stats = WorkerStats(generation=float(start.setup.generation), blocks=7)

    def beat() -> None:
        while not hanging.is_set():
            stats.heartbeat_ns = float(time.monotonic_ns())
            segment.publish_worker_stats(stats.values())
            time.sleep(0.05)

    threading.Thread(target=beat, daemon=True).start()
    worker = FakeWorker(channel, start)
    if behaviour == "babbling":
        sock.sendall(b"\xff" * 100)
    if behaviour == "hanging":
        hanging.set()
    worker.serve(behaviour)


if __name__ == "__main__":
    main()
