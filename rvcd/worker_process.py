"""Starts worker processes; the daemon does that first of all, because what a worker imports takes longer than all the rest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

WORKER_COMMAND = (sys.executable, "-m", "rvcd.worker")


@dataclass(frozen=True)
class WorkerProcess:
    """A process that imports what it needs and waits for its setup on the channel; it ends when the channel is closed."""

    process: asyncio.subprocess.Process
    channel: socket.socket

    async def discard(self) -> None:
        """End it, whatever it does."""
        self.channel.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()


async def start_worker(command: Sequence[str] = WORKER_COMMAND) -> WorkerProcess:
    """Start one; the command gets the file descriptor of its end of the channel. Raises OSError when that cannot be done."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, str(theirs.fileno()), pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        except OSError:
            ours.close()
            raise
    return WorkerProcess(process, ours)
