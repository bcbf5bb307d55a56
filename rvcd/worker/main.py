"""The worker process: holds torch, the models and the audio loop; may die at any time.

Started with the number of its channel as argument (ipc.python_module). Three threads beside the loop: one listens to the
control process, one prepares what is wanted, one reports.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import torch

from rvcd.engine.loader import Loader
from rvcd.engine.pitch import import_packages
from rvcd.ipc.channel import Channel
from rvcd.ipc.messages import Cut, Flush, Report, Start, Stop, ToWorker, Want, Wanted
from rvcd.ipc.segment import AudioSegment
from rvcd.worker.loop import AudioLoop
from rvcd.worker.preparation import Preparation
from rvcd.worker.process import die_with_parent, raise_priority, start_essential_thread
from rvcd.worker.reporter import Reporter
from rvcd.worker.warm_up import needed_thread_count

EXIT_NO_SETUP = 2
LOOP_STUCK_S = 2.0


class Worker:
    """The parts, put together."""

    def __init__(self, segment: AudioSegment, channel: Channel[Any], start: Start) -> None:
        setup, wanted = start.setup, start.wanted
        geometry = setup.geometries[wanted.latency]
        nothing = Wanted(voice=None, speaker=0, f0_method="", latency=wanted.latency)
        self.setup, self.wanted, self.channel = setup, wanted, channel
        self.reporter = Reporter(channel, Report(-1, nothing, {}, "", ()))
        self.loop = AudioLoop(segment, geometry, setup.generation, self.reporter.log)
        loader = Loader(setup.models, geometry, warn=lambda text: self.reporter.log("warning", text))
        self.preparation = Preparation(setup, loader, self.loop, self.reporter)

    def run(self) -> int:
        """Load, warm up, convert until told to stop. Returns the process's exit status."""
        torch.set_flush_denormal(True)
        raise_priority()
        threads = self.setup.models.threads
        torch.set_num_threads(threads or os.cpu_count() or 1)
        # Beside the loading, while nothing is heard yet: an import in mid-stream would hold the interpreter for too long.
        imports = threading.Thread(target=_import_packages, name="imports")
        imports.start()
        # With all cores.
        self.preparation.bring_about(self.wanted)
        imports.join()
        if not threads and self.loop.converter is not None:
            self.preparation.use_threads(needed_thread_count(self.loop.converter))
        self.preparation.choose_latency()
        # Start-up garbage never has to be looked at again: collections in the loop stay short.
        gc.collect()
        gc.freeze()
        self.loop.accept_errands()
        start_essential_thread("preparation", self._prepare)
        start_essential_thread("commands", self._listen)
        # Ready is told once the loop has begun: from then on what is missing counts as lost.
        self.loop.submit(lambda: start_essential_thread("reports", self.reporter.run))
        return self.loop.run()

    def _prepare(self) -> None:
        torch.set_num_threads(1)  # this thread's own number: loading must not take the cores from the voice
        self.preparation.serve()

    def _listen(self) -> None:
        while (message := self.channel.receive()) is not None and not isinstance(message, Stop):
            if isinstance(message, Want):
                self.preparation.want(message.wanted)
            elif isinstance(message, Cut):
                self.preparation.cut(message.latency)
            elif isinstance(message, Flush):
                self.loop.submit(self.loop.flush)
        self.loop.stop()
        # A loop stuck inside a network cannot be asked: the control process is gone or wants us gone.
        time.sleep(LOOP_STUCK_S)
        os._exit(1)


def _import_packages() -> None:
    with contextlib.suppress(Exception):  # what is wrong with a package is said when its method is chosen
        import_packages()


def main() -> None:
    die_with_parent()
    # Ctrl-C and systemd reach the whole group; the control process says when to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel: Channel[Any] = Channel(socket.socket(fileno=int(sys.argv[1])), ToWorker)
    descriptor = channel.receive_descriptor()
    start = channel.receive() if descriptor is not None else None
    if descriptor is None or not isinstance(start, Start):
        sys.exit(EXIT_NO_SETUP)
    with AudioSegment.attach(descriptor) as segment:
        status = Worker(segment, channel, start).run()
    sys.stdout.flush()
    os._exit(status)  # torch's threads may take seconds to wind down
