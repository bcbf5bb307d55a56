"""`rvcd assets fetch`: the published files, from where they are published, from a mirror, or from a folder."""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rvcd.errors import TransferError
from rvcd.transfer.download import CHUNK_BYTES, Download, Progress, check_space, disk_problem, download, part_of, put_in_place
from rvcd.transfer.http import Patience, Rules
from rvcd.voices.assets import Asset, AssetFile, sha256_of

PUBLISHED_AT = "https://huggingface.co"
MIRROR_VARIABLE = "HF_ENDPOINT"
"""By which the programs of Hugging Face, and those who run mirrors of it, name another server."""
NEWEST = "main"
"""The revision that is asked for where the known one is not there: a mirror may have only this. The checksum decides."""


class Outcome(enum.Enum):
    """What came of one asset."""

    FETCHED = "fetched"
    PRESENT = "present"


@dataclass(frozen=True)
class Fetch:
    """What to fetch. folder: models.folder. origin: the server, or the folder of --from.

    checksums: by the asset's key, of the user's own in place of the published one. force: replace files that are something else.
    """

    assets: Sequence[Asset]
    folder: Path
    origin: str | Path
    checksums: Mapping[str, str]
    force: bool = False


def origin(mirror: str, environment: Mapping[str, str]) -> str:
    """Return the server to ask: HF_ENDPOINT's, else the configured mirror, else the publisher's. Raises TransferError."""
    named = environment.get(MIRROR_VARIABLE, "").strip().rstrip("/")
    if named and not named.lower().startswith(("https://", "http://")):
        raise TransferError(f"{MIRROR_VARIABLE}: {named[:80]!r} is no address; it takes https://host")
    return named or mirror or PUBLISHED_AT


def rules_for(server: str) -> Rules:
    """Return what a server may lead to: one that the user named may be on a private network, the publisher's may not."""
    return Rules(allow_private=server != PUBLISHED_AT, allow_proxy=True)


def fetch(asset: Asset, wanted: Fetch, progress: Progress, patience: Patience | None = None) -> Outcome:
    """Bring one asset into its folder, whole and checked. Raises TransferError with one sentence; nothing half is there then."""
    missing = []
    for file in asset.files:
        expected = _expected(asset, file, wanted.checksums)
        target = wanted.folder / file.path
        if not os.path.lexists(target):
            missing.append((expected, target))
        elif not _is_it(expected, target):
            if not wanted.force:
                raise TransferError(f"{target}: is there, but is not the published file; --force replaces it")
            missing.append((expected, target))
    for expected, target in missing:
        if isinstance(wanted.origin, Path):
            _copy(asset, expected, wanted.origin, target, progress)
        else:
            _download(asset, expected, wanted.origin, target, progress, patience)
        put_in_place(part_of(target), target)
    return Outcome.FETCHED if missing else Outcome.PRESENT


def check_space_for(wanted: Fetch) -> None:
    """Raises TransferError where not all that is to be fetched fits the disk: said before the first of it comes."""
    needed = 0
    for asset in wanted.assets:
        for file in asset.files:
            target = wanted.folder / file.path
            if not target.exists() or wanted.force:
                part = part_of(target)
                needed += max(0, file.size_bytes - (part.stat().st_size if part.exists() else 0))
    if needed:
        check_space(wanted.folder, needed)


@dataclass(frozen=True)
class _Expected:
    """A file, and what it must be. size_bytes None: as large as it may be (max_bytes)."""

    file: AssetFile
    size_bytes: int | None
    sha256: str

    @property
    def max_bytes(self) -> int:
        return self.file.size_bytes if self.size_bytes is not None else 4 * self.file.size_bytes


def _expected(asset: Asset, file: AssetFile, checksums: Mapping[str, str]) -> _Expected:
    own = checksums.get(asset.key, "") if file is asset.weights else ""
    if own and own != file.sha256:
        return _Expected(file, None, own)
    return _Expected(file, file.size_bytes, file.sha256)


def _is_it(expected: _Expected, target: Path) -> bool:
    if not target.is_file() or expected.size_bytes not in (None, target.stat().st_size):
        return False
    return not expected.sha256 or sha256_of(target) == expected.sha256


def _download(
    asset: Asset, expected: _Expected, server: str, target: Path, progress: Progress, patience: Patience | None
) -> None:
    urls = [f"{server}/{asset.repository}/resolve/{revision}/{expected.file.remote}" for revision in (asset.revision, NEWEST)]
    download(
        Download(
            expected.file.path, urls, part_of(target), expected.max_bytes, expected.size_bytes, expected.sha256,
            by_server=not expected.sha256,
        ),
        rules_for(server), progress, patience,
    )  # fmt: skip


def _copy(asset: Asset, expected: _Expected, folder: Path, target: Path, progress: Progress) -> None:
    """Copy a file of a folder to its part, and check it on the way. Raises TransferError; then there is no part."""
    file = expected.file
    names = dict.fromkeys((file.path, file.remote, Path(file.remote).name if len(asset.files) == 1 else file.path))
    source = next((folder / name for name in names if (folder / name).is_file()), None)
    if source is None:
        raise TransferError(f"{folder}: has no {file.path}; put it there, as {asset.page} has it")
    part = part_of(target)
    try:
        size_bytes, digest, done = source.stat().st_size, hashlib.sha256(), 0
        if expected.size_bytes not in (None, size_bytes) or size_bytes > expected.max_bytes:
            wanted = f"{expected.size_bytes:,}" if expected.size_bytes is not None else f"at most {expected.max_bytes:,}"
            raise TransferError(f"{source}: has {size_bytes:,} bytes, not {wanted}: it is another file, or not all of it")
        check_space(target.parent, size_bytes)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with source.open("rb") as reading, part.open("wb") as writing:
                while chunk := reading.read(CHUNK_BYTES):
                    writing.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    progress.at(file.path, done, size_bytes)
                os.fsync(writing.fileno())
            if expected.sha256 and digest.hexdigest() != expected.sha256:
                raise TransferError(f"{source}: has the SHA-256 {digest.hexdigest()}, not {expected.sha256}: it is another file")
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TransferError(disk_problem(error, target)) from None
