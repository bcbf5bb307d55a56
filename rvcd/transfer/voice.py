"""`rvcd voice import https://...`: a voice's file from anywhere, under bounds, into a folder that goes away afterwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rvcd.errors import TransferError
from rvcd.formats.torch_file import MAX_FILE_BYTES
from rvcd.protocol import VOICE_SUFFIXES
from rvcd.transfer.download import Download, Progress, download, printable
from rvcd.transfer.http import Patience, Rules, shown

SUFFIXES = (".zip", ".index", *VOICE_SUFFIXES)
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
FILE_NAME = re.compile(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", re.IGNORECASE)
MAX_STEM_CHARACTERS = 100


def is_address(source: str) -> bool:
    """Say whether a word of the command line is an address, and not a path."""
    return ADDRESS.match(source) is not None


def rules(allow_private: bool) -> Rules:
    """Return where a voice's address may lead. Behind a proxy that cannot be judged: only where everything is allowed."""
    return Rules(allow_private=allow_private, allow_proxy=allow_private)


def fetch_voice_file(
    url: str, folder: Path, progress: Progress, *, allow_private: bool = False, patience: Patience | None = None
) -> Path:
    """Download a voice's file into a folder and return it, under a name that tells what it is. Raises TransferError."""
    part = folder / ".download.part"
    name = _name_in(urlsplit(url).path)
    wanted = Download(name or "voice", [url], part, MAX_FILE_BYTES)
    try:
        answer = download(wanted, rules(allow_private), progress, patience)
    except TransferError as error:
        raise _with_advice(url, error) from None
    name = name or _name_in(_file_name(answer.disposition)) or _name_in(urlsplit(answer.url).path)
    if not name:
        part.unlink()
        ends = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise TransferError(f"{shown(url)}: names no file that can be imported; its name must end in {ends}")
    target = folder / name
    if target.exists():
        part.unlink()
        raise TransferError(f"{shown(url)}: is the second file called {name}; name each address once")
    part.rename(target)
    return target


def local_words(text: str, files: Sequence[tuple[Path, str]]) -> str:
    """Return a message about downloaded files as one about their addresses. files: each file and where it came from."""
    for file, url in files:
        text = text.replace(str(file), shown(url))
    return text


def _name_in(path: str) -> str:
    """Return the last part of a path as a file's name, "" where it does not end as a voice's file does."""
    name = unquote(path, errors="replace").replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    if f"{dot}{suffix}".lower() not in SUFFIXES:
        return ""
    stem = "".join(c if c.isprintable() and c not in "/\0" else "_" for c in stem).lstrip(".")
    return f"{stem.encode()[:MAX_STEM_CHARACTERS].decode(errors='ignore') or 'voice'}.{suffix.lower()}"


def _file_name(disposition: str) -> str:
    found = FILE_NAME.search(disposition[:1000])
    return found[1].strip() if found else ""


def _with_advice(url: str, error: TransferError) -> TransferError:
    """Add what helps with the addresses that people copy most: pages about a file in place of the file."""
    parts = urlsplit(url)
    if parts.hostname in ("huggingface.co", "hf.co") and "/blob/" in parts.path:
        right = shown(url).replace("/blob/", "/resolve/", 1)
        return TransferError(f"{shown(url)}: is the page about the file; its own address is {printable(right, 200)}")
    return error
