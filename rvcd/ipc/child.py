"""A child process and the channel to it, seen from the event loop: start it, talk to it, watch it end. Written once for all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from rvcd.errors import RvcdError
from rvcd.ipc.channel import READ_BYTES, Frames, frame, hand_over

LAST_WORDS_S = 1.0
"""How long the messages and the output of a child that has ended are waited for: somebody else may hold its pipes open."""
LEAVING_S = 2.0
"""A child that has closed its channel is about to end; one that does not is killed."""
KILLED_LIMIT_S = 1.0
"""A process that hangs in a disk's driver outlives even SIGKILL for a while: it is not waited for any longer."""
LONGEST_LINE_BYTES = 4096
"""Of what a child writes to its standard error: what a line has more is another line."""

M = TypeVar("M")


class Child(Generic[M]):
    """One process, from its start to its end. All methods on the event loop's thread; none waits for the child to listen.

    log: where what it writes to its standard error goes.
    """

    def __init__(self, process: asyncio.subprocess.Process, sock: socket.socket, log: logging.Logger) -> None:
        self._process, self._sock, self._log = process, sock, log
        self._unsent = bytearray()
        self._writing = False

    @classmethod
    async def start(
        cls, command: Sequence[str], log: logging.Logger, *, environment: Mapping[str, str] | None = None
    ) -> Child[M]:
        """Start a process; the command gets the number of its end of the channel's descriptor as its last argument.

        Raises OSError when it cannot be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, str(theirs.fileno()), pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE, env=environment,
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        return cls(process, ours, log)

    @property
    def pid(self) -> int | None:
        """Process number, None once it has ended."""
        return self._process.pid if self._process.returncode is None else None

    def hand_over(self, descriptor: int) -> None:
        """Give the child a file descriptor, before the first message."""
        with contextlib.suppress(OSError):  # it has just died: watch() tells
            hand_over(self._sock, descriptor)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message; what the child does not take at once is kept and sent when it does."""
        self._unsent += frame(message)
        self._send_more()

    def _send_more(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            if not self._writing:
                self._writing = True
                asyncio.get_running_loop().add_writer(self._sock, self._send_more)
            return
        except OSError:  # it has just died: watch() tells
            self._unsent.clear()
        self._stop_writing()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            asyncio.get_running_loop().remove_writer(self._sock)

    async def watch(self, kinds: Any, handle: Callable[[M], None]) -> str:
        """Hand every message to `handle` until the process has ended; return how it ended, in words.

        kinds: a union of the structs that may come. A process whose messages cannot be read, or cannot be handled, is killed:
        it would only seem to be served.
        """
        reader = asyncio.ensure_future(self._read(kinds, handle))
        lines = asyncio.ensure_future(self._log_lines())
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((reader, ended), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                if reader.exception() is None:
                    await asyncio.wait((ended,), timeout=LEAVING_S)
                self.kill()
                await asyncio.wait((ended,), timeout=KILLED_LIMIT_S)
            await asyncio.wait((reader, lines), timeout=LAST_WORDS_S)
            if reader.done() and (error := reader.exception()) is not None:
                words = str(error) if isinstance(error, RvcdError) else f"{type(error).__name__}: {error}"
                return f"what it said could not be used: {words}"
            return describe_exit(self._process.returncode or 0)
        finally:
            for task in (reader, lines, ended):
                task.cancel()
            await asyncio.gather(reader, lines, ended, return_exceptions=True)
            self._close()

    async def _read(self, kinds: Any, handle: Callable[[M], None]) -> None:
        loop, frames = asyncio.get_running_loop(), Frames[M](kinds)
        while True:
            try:
                data = await loop.sock_recv(self._sock, READ_BYTES)
            except ConnectionResetError:
                continue  # said once when it ended without reading all of ours; its own last words come after that
            except OSError:
                return
            if not data:
                return
            frames.feed(data)
            while (message := frames.take()) is not None:
                handle(message)

    async def _log_lines(self) -> None:
        """Log what the process writes to its standard error, line by line; no line is too long."""
        assert self._process.stderr is not None
        held = b""
        while data := await self._process.stderr.read(READ_BYTES):
            *lines, held = (held + data).split(b"\n")
            while len(held) > LONGEST_LINE_BYTES:
                lines.append(held[:LONGEST_LINE_BYTES])
                held = held[LONGEST_LINE_BYTES:]
            for line in lines:
                self._log_line(line)
        self._log_line(held)

    def _log_line(self, line: bytes) -> None:
        for start in range(0, len(line), LONGEST_LINE_BYTES):
            if text := line[start : start + LONGEST_LINE_BYTES].decode(errors="replace").rstrip():
                self._log.warning("%s", text)

    def kill(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.kill()

    async def end(self, last_message: msgspec.Struct | None, grace_s: float) -> None:
        """Ask it to end with a message, and kill it after grace_s."""
        if self._process.returncode is None:
            if last_message is not None:
                self.send(last_message)
            try:
                await asyncio.wait_for(self._process.wait(), grace_s)
            except (asyncio.TimeoutError, asyncio.CancelledError):
                await self._kill_and_wait()

    async def discard(self) -> None:
        """End a process that nobody watches, and give back what belongs to it; may be called twice."""
        await self._kill_and_wait()
        self._close()

    async def _kill_and_wait(self) -> None:
        self.kill()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), KILLED_LIMIT_S)

    def _close(self) -> None:
        self._stop_writing()
        self._unsent.clear()
        self._sock.close()


def describe_exit(status: int) -> str:
    """Return an exit status in words; below 0: the signal that killed it."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"
