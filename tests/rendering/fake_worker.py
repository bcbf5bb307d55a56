"""A worker process that speaks as rvcd.rendering.worker does, and needs no models: what it does is said in the source files.

"die": ends at once. "die once": the same, the first time. "full": says that the disk is full. "hang": waits to be ended, with its
target open. "refuse" in the folder's refuse file: cannot load. Everything else is copied.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from rvcd.ipc.channel import Channel
from rvcd.rendering.messages import (
    Failed,
    Finished,
    Job,
    Levels,
    Load,
    Progress,
    Ready,
    Refused,
    Rendered,
    ToRenderWorker,
)
from rvcd.rendering.setup import content_hash
from rvcd.worker.process import die_with_parent


def main() -> None:
    die_with_parent()
    channel: Channel[Job] = Channel(socket.socket(fileno=int(sys.argv[-1])), ToRenderWorker)
    first: object = channel.receive()
    assert isinstance(first, Load)
    print(f"loads {first.setup.voice.name}", file=sys.stderr, flush=True)
    mode = sys.argv[1]
    if mode == "refuses":
        channel.send(Refused("the voice is broken"))
        return
    if mode == "dies":
        os._exit(9)
    channel.send(Ready("cpu", 1, ("a note of the loader",)))
    while isinstance(job := channel.receive(), Job):
        source, target = Path(job.source), Path(job.target)
        words = source.read_text()
        if words == "die" or (words == "die once" and not source.with_suffix(".died").exists()):
            source.with_suffix(".died").touch()
            Path(f"{target}.part-{os.getpid()}").touch()
            os._exit(9)
        if words == "hang":
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(f"{target}.part-{os.getpid()}").touch()
            channel.send(Progress(job.number, 0.5))
            time.sleep(600)
        if words in ("bad", "full"):
            channel.send(Failed(job.number, f"{source}: is {words}", disk_full=words == "full"))
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"converted {words}")
        channel.send(Progress(job.number, 1.0))
        levels = Levels(-3.0, -20.0, 0)
        made = Rendered("v", 40000, 1, 2.0, 0.5, 1.0, levels, levels, ())
        channel.send(Finished(job.number, made, content_hash(source), content_hash(target)))


main()
