"""A web server on this machine that does what servers do, and what they should not: it cuts, stalls, lies and redirects."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each path with the next of its answers; the last one stays."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((path, dict(self.headers.items())))
        answers = self.server.answers.get(path) or self.server.answers.get("*")
        self.close_connection = True
        if not answers:
            self.head(404, {"Content-Length": "0"})
            return
        with contextlib.suppress(ConnectionError):
            (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class WebServer:
    """Where it is reached, what it answers, and what it was asked: (path, headers)."""

    url: str
    answers: dict[str, list[Answer]]
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def serve(self, path: str, *answers: Answer) -> str:
        self.answers[path] = list(answers)
        return self.url + path

    def headers_of(self, path: str) -> list[dict[str, str]]:
        return [headers for asked, headers in self.asked if asked == path]


@contextlib.contextmanager
def serving(host: str = "127.0.0.1", context: ssl.SSLContext | None = None, name: str = "") -> Iterator[WebServer]:
    """Run a server for as long as the block lasts. name: of the host in its address, where that is not `host`."""
    server: Any = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # a client that does not trust it
    web = WebServer(f"{'https' if context else 'http'}://{name or host}:{server.server_port}", {})
    server.answers, server.asked = web.answers, web.asked
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificate(folder: Path, *names: str) -> Path:
    """Write a certificate for these names and its key into one file, and return it."""
    path = folder / "server.pem"
    kinds = ",".join(f"{'IP' if re.fullmatch(r'[0-9.]+', name) else 'DNS'}:{name}" for name in names)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem"), "-out",
         str(folder / "cert.pem"), "-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={kinds}"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return path


# ---- answers


def whole(content: bytes, etag: str = "", kind: str = "application/octet-stream") -> Answer:
    """As a good server: with ranges."""
    return sending(content, etag=etag, kind=kind)


def sending(
    content: bytes, *, stop_at: int | None = None, claim: int | None = None, etag: str = "", ranges: bool = True,
    kind: str = "application/octet-stream", stall: threading.Event | None = None, more: Mapping[str, str] | None = None,
) -> Answer:  # fmt: skip
    """stop_at: bytes of this answer after which the connection ends. claim: a length that is not so.

    stall: before the connection ends, wait for this. ranges False: everything is sent, whatever was asked for.
    """

    def answer(handler: Handler) -> None:
        first, headers = 0, dict(more or {})
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if asked and ranges and handler.headers.get("If-Range", etag) == etag:
            first = int(asked[1])
            if first >= len(content):
                handler.head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                return
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if etag:
            headers["ETag"] = etag
        length = len(content) - first if claim is None else claim
        handler.head(206 if first else 200, {"Content-Type": kind, "Content-Length": str(length), **headers})
        handler.wfile.write(content[first:][:stop_at])
        handler.wfile.flush()
        if stall is not None:
            stall.wait(60)

    return answer


def status(code: int, content: bytes = b"", **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.head(code, {"Content-Length": str(len(content)), **{k.replace("_", "-"): v for k, v in headers.items()}})
        handler.wfile.write(content)

    return answer


def redirect(to: str, **headers: str) -> Answer:
    return status(302, Location=to, **headers)


def chunked(content: bytes, size: int = 1000) -> Answer:
    """Without a length beforehand."""

    def answer(handler: Handler) -> None:
        handler.head(200, {"Transfer-Encoding": "chunked"})
        for start in range(0, len(content), size):
            piece = content[start : start + size]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def drip(content: bytes, enough: threading.Event) -> Answer:
    """One byte after the other, for ever."""

    def answer(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(len(content))})
        for byte in content:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            if enough.wait(0.01):
                return

    return answer


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff no protocol of anybody's\r\n\r\n")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
