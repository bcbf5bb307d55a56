"""One file over HTTP: gone on with after an interruption, bounded, checked, and under its name only when it is whole.

While it comes it is `.NAME.part` beside its place. That file stays when the transfer ends early, and the next one goes on from
there; it goes away when its content turns out to be wrong.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from rvcd.errors import TransferError
from rvcd.transfer.addresses import NoAddressError
from rvcd.transfer.http import PassingError, Patience, Response, Rules, get, shown

CHUNK_BYTES = 256 << 10
SPARE_BYTES = 64 << 20
"""What stays free on the disk: a full one harms more than a missing file."""
MAX_PAUSE_S = 30.0
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which the same request may go better."""
WRONG_RANGE = 416
SHA256 = re.compile(r"[0-9a-f]{64}")
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")


class Progress(Protocol):
    """Is told how a transfer goes. Numbers are bytes of the file, not of the request."""

    def at(self, name: str, done_bytes: int, size_bytes: int | None) -> None:
        """So much of a file is there. size_bytes None: nobody knows how much it will be."""
        ...

    def waiting(self, name: str, reason: str, pause_s: float) -> None:
        """The transfer is tried again after a pause."""
        ...


@dataclass(frozen=True)
class Download:
    """What to get. urls: tried in this order while the answer is that there is no such file.

    size_bytes None: any up to max_bytes. sha256 "": unknown. by_server: then what the server says of its content must hold.
    kept: whether what an earlier run left is gone on with; only sha256 can tell whether the pieces belong together.
    """

    name: str
    urls: Sequence[str]
    part: Path
    max_bytes: int
    size_bytes: int | None = None
    sha256: str = ""
    by_server: bool = False

    @property
    def kept(self) -> bool:
        return bool(self.sha256)


@dataclass(frozen=True)
class Answer:
    """Where a file came from in the end. url: without what follows `?`. disposition: the server's Content-Disposition, or ""."""

    url: str = ""
    disposition: str = ""


def part_of(target: Path) -> Path:
    """Return what a file is called until it is whole."""
    return target.with_name(f".{target.name}.part")


def download(
    wanted: Download,
    rules: Rules,
    progress: Progress,
    patience: Patience | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Bring wanted.part to its whole, checked content. Raises TransferError with one sentence.

    On failure what has come stays in wanted.part if it can be gone on with, and nothing stays if it cannot.
    """
    try:
        wanted.part.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(wanted.part) as file:
            transfer = _Transfer(wanted, file, rules, progress, patience or Patience(), sleep)
            transfer.run()
            return transfer.answer
    except OSError as error:
        raise TransferError(disk_problem(error, wanted.part.parent)) from None


def put_in_place(part: Path, target: Path) -> None:
    """Give a whole file its name, in one step. Raises TransferError."""
    try:
        os.replace(part, target)
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TransferError(disk_problem(error, target)) from None


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raises TransferError when a file of so many bytes would fill the disk. folder: need not be there yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed_bytes + SPARE_BYTES > free:
        raise TransferError(
            f"{folder}: {free / 1e6:,.0f} MB are free, and {needed_bytes / 1e6:,.0f} MB are to be written, with "
            f"{SPARE_BYTES / 1e6:.0f} MB to spare; free some, or choose another folder"
        )


def disk_problem(error: OSError, path: Path) -> str:
    """Return a sentence for what the disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full; free some space, then type the same again to go on"
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename or path}: cannot be written ({reason}); mend that, or choose another folder"


@contextlib.contextmanager
def _only_one(part: Path) -> Iterator[BinaryIO]:
    """Open a file to go on with, for this process alone. Raises TransferError when another one writes it."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransferError(f"{part}: another download writes it; wait for that one to end") from None
        yield file


class _WrongContent(TransferError):
    """What came is not what was wanted."""


class _Transfer:
    """One file, from its first request to its last byte."""

    def __init__(
        self,
        wanted: Download,
        file: BinaryIO,
        rules: Rules,
        progress: Progress,
        patience: Patience,
        sleep: Callable[[float], None],
    ) -> None:
        self._wanted, self._file, self._rules, self._progress = wanted, file, rules, progress
        self._patience, self._sleep = patience, sleep
        self._urls = list(wanted.urls)
        self._size_bytes = wanted.size_bytes
        self._etag = ""  # by which a server knows what has come so far
        self._checksum = ""  # what a server says that all of it is
        self._done = self._received = 0
        self._digest = hashlib.sha256()
        self.answer = Answer()

    def run(self) -> None:
        resumed = self._go_on_from_what_is_there()
        try:
            self._bring_the_rest()
            self._check()
        except _WrongContent:
            self._start_over()
            if not resumed:
                self._remove()
                raise
            # The pieces may be of two different files: once more, all of it.
            try:
                self._bring_the_rest()
                self._check()
            except _WrongContent:
                self._remove()
                raise
        except TransferError:
            if not (self._wanted.kept and self._done):
                self._remove()
            raise
        os.fsync(self._file.fileno())

    # ---- what is there

    def _go_on_from_what_is_there(self) -> bool:
        """Take in what an earlier run left. Returns whether there was anything."""
        there = os.fstat(self._file.fileno()).st_size
        if not self._wanted.kept or not 0 < there <= (self._size_bytes or self._wanted.max_bytes):
            self._start_over()
            return False
        while chunk := self._file.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self._done += len(chunk)
        return True

    def _start_over(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._done, self._etag, self._checksum, self._digest = 0, "", "", hashlib.sha256()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._wanted.part.unlink()

    # ---- the rest

    def _bring_the_rest(self) -> None:
        """Ask until everything is there. Raises TransferError when that does not come about."""
        failures = 0
        while self._size_bytes is None or self._done < self._size_bytes:
            before = self._received
            try:
                if self._one_request():
                    return
                continue
            except NoAddressError:
                if not self._received:
                    raise  # no network: waiting will not mend it
                reason = "the network is gone"
            except PassingError as error:
                reason = str(error).partition(": ")[2] or str(error)
            failures = 1 if self._received > before else failures + 1
            if failures >= self._patience.attempts:
                raise self._given_up(reason)
            if not (self._wanted.kept or self._etag):
                self._start_over()  # nothing tells whether the rest would be of the same file
            pause_s = min(MAX_PAUSE_S, self._patience.pause_s * 2 ** (failures - 1))
            self._progress.waiting(self._wanted.name, reason, pause_s)
            self._sleep(pause_s)

    def _given_up(self, reason: str) -> TransferError:
        kept = (
            f"; {self._done:,} bytes are kept, and the same command goes on from there"
            if self._wanted.kept and self._done
            else ""
        )
        advice = "" if kept else "; try again later"
        return TransferError(f"{shown(self._urls[0])}: {reason}, {self._patience.attempts} times in a row{kept}{advice}")

    def _one_request(self) -> bool:
        """Ask for what is missing and take what comes. Returns whether the file is whole; False: ask again."""
        headers = {"Range": f"bytes={self._done}-"} if self._done else {}
        if self._done and self._etag:
            headers["If-Range"] = self._etag
        with get(self._urls[0], self._rules, self._patience, headers) as response:
            if response.status == 404 and len(self._urls) > 1:
                del self._urls[0]
                return False
            if response.status == WRONG_RANGE and self._done:
                self._start_over()
                return False
            self._refuse_other_answers(response)
            expected = self._expected_size(response)
            self._find_place(response)
            self.answer = Answer(response.url, response.headers.get("Content-Disposition", ""))
            check_space(self._wanted.part.parent, (expected or self._done) - self._done)
            self._take(response, expected)
            if expected is not None and self._done < expected:
                raise PassingError(f"{response.url}: the connection was cut")
            self._size_bytes = self._done
            return True

    def _refuse_other_answers(self, response: Response) -> None:
        status = response.status
        if status in (200, 206) and not (status == 206 and not self._done):
            if (coding := response.headers.get("Content-Encoding", "identity").lower()) not in ("identity", ""):
                raise TransferError(
                    f"{response.url}: is sent packed as {printable(coding)}, which was not asked for; ask another server"
                )
            return
        if status in BUSY:
            raise PassingError(f"{response.url}: the server is busy (status {status})")
        what = {
            401: "asks for a login", 403: "is not given to anybody", 404: "does not exist", 410: "does not exist any more",
            451: "is not given out for legal reasons",
        }.get(status, "is answered with something that is no file")  # fmt: skip
        raise TransferError(f"{response.url}: {what} (status {status}); check the address, or get the file in a browser")

    def _expected_size(self, response: Response) -> int | None:
        """Return how large the file will be, None if nobody says so. Raises TransferError when that cannot be the wanted one."""
        wanted, total = self._wanted.size_bytes, self._said_size(response)
        if total is not None and total != wanted:
            page = "; it is a web page: is there a login page in between?" if _is_page(response) else ""
            if wanted is not None:
                raise TransferError(f"{response.url}: has {total:,} bytes, not {wanted:,}: it is another file{page}")
            if total > self._wanted.max_bytes:
                raise TransferError(
                    f"{response.url}: has {total:,} bytes, more than the {self._wanted.max_bytes:,} that it may have{page}"
                )
        return wanted if wanted is not None else total

    def _said_size(self, response: Response) -> int | None:
        if response.status == 206:
            said = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            return int(said[2]) if said and said[2] != "*" else None
        said = re.fullmatch(r"(\d{1,18})", response.headers.get("Content-Length", "").strip())
        return int(said[1]) if said else None

    def _find_place(self, response: Response) -> None:
        """Make sure that what comes belongs behind what is there."""
        if response.status == 206:
            said = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            if said is None or int(said[1]) != self._done:
                self._start_over()
                raise PassingError(f"{response.url}: the server sent another part than was asked for")
        elif self._done:
            self._start_over()
        self._file.seek(self._done)
        self._etag = "" if response.etag.startswith("W/") else response.etag
        self._checksum = self._checksum or response.checksum

    def _take(self, response: Response, expected: int | None) -> None:
        limit = self._wanted.max_bytes if expected is None else expected
        window_began, in_window = time.monotonic(), 0
        while True:
            chunk = response.read(CHUNK_BYTES)
            if not chunk:
                return
            if self._done + len(chunk) > limit:
                raise _WrongContent(f"{response.url}: sends more than the {limit:,} bytes that it may have")
            if not self._done and _looks_like_page(chunk):
                raise _WrongContent(
                    f"{response.url}: is a web page, not a file; is there a login page in between, or a link to a page?"
                )
            self._file.write(chunk)
            self._digest.update(chunk)
            self._done += len(chunk)
            self._received += len(chunk)
            in_window += len(chunk)
            self._progress.at(self._wanted.name, self._done, expected)
            if time.monotonic() - window_began > self._patience.window_s:
                if in_window < self._patience.least_bytes:
                    raise PassingError(f"{response.url}: the server sends next to nothing")
                window_began, in_window = time.monotonic(), 0

    # ---- whether it is right

    def _check(self) -> None:
        self._file.flush()
        wanted, found = self._wanted, self._digest.hexdigest()
        if wanted.sha256:
            if found != wanted.sha256:
                raise _WrongContent(
                    f"{shown(self._urls[0])}: has the SHA-256 {found}, not {wanted.sha256}: another file; nothing is kept"
                )
        elif wanted.by_server:
            said = self._checksum.strip('"').lower()
            if SHA256.fullmatch(said):
                right = said == found
            elif GIT_BLOB.fullmatch(said):
                right = said == self._git_blob()
            else:
                raise _WrongContent(f"{shown(self._urls[0])}: comes without a checksum of the server's; ask another mirror")
            if not right:
                raise _WrongContent(f"{shown(self._urls[0])}: is not what the server's own checksum says; nothing is kept")

    def _git_blob(self) -> str:
        """Return the name that git gives this content: what Hugging Face says of its small files."""
        digest = hashlib.new("sha1", b"blob %d\0" % self._done, usedforsecurity=False)
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()


def printable(text: str, characters: int = 60) -> str:
    """Return a server's word fit for one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:characters])


def _is_page(response: Response) -> bool:
    return response.headers.get("Content-Type", "").lower().startswith("text/html")


def _looks_like_page(start: bytes) -> bool:
    return start[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head"))
