"""How messages travel between two processes: framed by their length on a local stream socket, so a message may be of any size.

A frame is its length (four bytes, little-endian) and a struct of rvcd.ipc.messages as MessagePack; as JSON where a text is no
Unicode, as the name of a file may be: Python keeps such bytes as lone surrogates, which only JSON's escapes carry. The shared
segment's descriptor travels once, before the first frame, with a byte of its own.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from typing import Any, Generic, TypeVar

import msgspec

from rvcd.errors import ProtocolError

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 64 * 2**20
"""A length beyond this is no message of ours."""
READ_BYTES = 65536

M = TypeVar("M")


def frame(message: msgspec.Struct) -> bytes:
    """Return a message as it travels."""
    try:
        body = msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        body = json.dumps(msgspec.to_builtins(message)).encode("ascii")
    return LENGTH.pack(len(body)) + body


class Frames(Generic[M]):
    """Puts messages together again from bytes that come in pieces of any size."""

    def __init__(self, kinds: Any) -> None:
        """kinds: a union of the structs that may come."""
        self._kinds = kinds
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kinds)
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._held += data

    @property
    def ready(self) -> bool:
        """Whether take() has something to return, or to raise."""
        if len(self._held) < LENGTH.size:
            return False
        length: int = LENGTH.unpack_from(self._held)[0]
        return length > MAX_FRAME_BYTES or len(self._held) >= LENGTH.size + length

    def take(self) -> M | None:
        """Return the next whole message, None until there is one. Raises ProtocolError for bytes that are none."""
        if not self.ready:
            return None
        length: int = LENGTH.unpack_from(self._held)[0]
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a message of {length} bytes was announced; {MAX_FRAME_BYTES} is the most")
        end = LENGTH.size + length
        body = bytes(self._held[LENGTH.size : end])
        del self._held[:end]
        try:
            if body.startswith(b"{"):  # no struct begins like this in MessagePack
                found: M = msgspec.convert(json.loads(body), self._kinds)
                return found
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(f"a message cannot be understood: {error}") from None


class Channel(Generic[M]):
    """A child's end: blocking, for threads. One thread receives; any thread may send."""

    def __init__(self, sock: socket.socket, kinds: Any) -> None:
        """sock: a connected stream socket. kinds: a union of the structs that come in."""
        self._sock = sock
        self._frames: Frames[M] = Frames(kinds)
        self._sending = threading.Lock()

    def receive_descriptor(self) -> int | None:
        """Wait for the descriptor that is handed over first; None when the other side is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, 1, 1)
        except OSError:
            return None
        return descriptors[0] if data and descriptors else None

    def receive(self) -> M | None:
        """Wait for the next message; None when the other side is gone. Raises ProtocolError."""
        while (message := self._frames.take()) is None:
            try:
                data = self._sock.recv(READ_BYTES)
            except OSError:
                return None
            if not data:
                return None
            self._frames.feed(data)
        return message

    def comes_within(self, timeout_s: float) -> bool:
        """Wait until there is something to receive, or the other side is gone; False after timeout_s."""
        return self._frames.ready or bool(select.select([self._sock], [], [], timeout_s)[0])

    def send(self, message: msgspec.Struct) -> None:
        """Send a message; waits while the other side takes none. Raises OSError when it is gone."""
        with self._sending:
            self._sock.sendall(frame(message))


def hand_over(sock: socket.socket, descriptor: int) -> None:
    """Send a file descriptor, first of all. Raises OSError when the other side is gone."""
    socket.send_fds(sock, [b"\0"], [descriptor])
