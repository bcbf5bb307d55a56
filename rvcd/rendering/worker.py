"""A batch's worker process: started by rvcd.rendering.pool with its channel's number as argument.

It loads the models once and converts one file after the other. It may end at any time: a file has no name before it is whole.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rvcd.audio.files import remove_leftovers
from rvcd.errors import DiskFullError, RvcdError
from rvcd.ipc.channel import Channel
from rvcd.rendering.machine import private_bytes
from rvcd.rendering.messages import Failed, Finished, FromRenderWorker, Job, Load, Progress, Ready, Refused, ToRenderWorker
from rvcd.rendering.renderer import Renderer, use_machine
from rvcd.rendering.setup import content_hash
from rvcd.voices.identity import file_facts
from rvcd.worker.process import die_with_parent

PROGRESS_S = 0.2


def convert_job(renderer: Renderer, job: Job, progress: Callable[[float], None]) -> FromRenderWorker:
    """Convert one file and return how that went. Raises nothing that a file can cause."""
    source, target = Path(job.source), Path(job.target)
    try:
        remove_leftovers(target)
        before = file_facts(source)
        source_hash = content_hash(source)
        rendered = renderer.render(source, target, replace=job.replace, progress=progress)
        if file_facts(source) != before:
            target.unlink(missing_ok=True)
            return Failed(job.number, f"{source}: was changed while it was converted; render it again once that has ended")
        return Finished(job.number, rendered, source_hash, content_hash(target))
    except RvcdError as error:
        return Failed(job.number, str(error), isinstance(error, DiskFullError))
    except MemoryError:
        return Failed(job.number, f"{source}: there is not enough memory; use fewer --jobs")
    except OSError as error:
        return Failed(job.number, f"{source}: {(error.strerror or str(error)).lower()}")
    except Exception as error:
        return Failed(job.number, f"{source}: internal error: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def serve(channel: Channel[Any]) -> None:
    """Do what the other side of the channel says until it says no more."""
    first = channel.receive()
    if not isinstance(first, Load):
        return
    try:
        use_machine(first.setup)
        renderer = Renderer(first.setup)
        renderer.warm_up()
    except RvcdError as error:
        channel.send(Refused(str(error)))
        return
    channel.send(Ready(renderer.device, private_bytes(), tuple(renderer.notes)))
    while isinstance(job := channel.receive(), Job):
        channel.send(convert_job(renderer, job, _Throttled(channel, job.number)))


class _Throttled:
    """Reports progress, but not more often than anybody looks."""

    def __init__(self, channel: Channel[Any], number: int) -> None:
        self._channel, self._number, self._next_s = channel, number, 0.0

    def __call__(self, done: float) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + PROGRESS_S
            self._channel.send(Progress(self._number, done))


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its children
    channel: Channel[Any] = Channel(socket.socket(fileno=int(sys.argv[1])), ToRenderWorker)
    try:
        serve(channel)
    except OSError:  # the parent is gone
        os._exit(1)
    os._exit(0)  # nothing is left to be done, and torch's threads take their time
