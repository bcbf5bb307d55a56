"""The published files rvcd can use: what they are called, how to recognise them, what a given file is. Stdlib only."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from pathlib import Path

from rvcd.errors import ModelFileError


@dataclass(frozen=True)
class Asset:
    """One published file. key: the [models] key that names it. sha256 "" means that only the size is known."""

    key: str
    name: str
    size_bytes: int
    sha256: str
    doc: str


ASSETS: tuple[Asset, ...] = (
    Asset(
        "content_encoder", "hubert_base.pt", 189_507_909,
        "f54b40fd2802423a5643779c4861af1e9ee9c1564dc9d32f54f20b5ffba7db96", "content encoder, fairseq layout",
    ),
    Asset(
        "content_encoder", "hubert_base/pytorch_model.bin", 189_206_711,
        "cc8c20f4b90a520757260197a3ff2505705a7adbd20ad9eeaa4e1a9b38442ef5", "content encoder, Transformers layout",
    ),
    Asset(
        "rmvpe", "rmvpe.pt", 181_184_272,
        "6d62215f4306e3ca278246188607209f09af3dc77ed4232efdd069798c4ec193", "pitch estimator for f0_method = \"rmvpe\"",
    ),
    Asset("rmvpe", "rmvpe.pt (second variant)", 181_189_687, "", "the same network, published with another checksum"),
)  # fmt: skip
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""What a Transformers folder holds its weights in, in the order they are looked for."""


class Match(enum.Enum):
    """What a file turned out to be."""

    BUILT_IN = "built in"
    MISSING = "missing"
    VERIFIED = "verified"
    SIZE_ONLY = "known size, checksum unknown"
    UNKNOWN = "not a published file"
    MISMATCH = "checksum differs"


@dataclass(frozen=True)
class AssetStatus:
    """A configured file, as found. path None: nothing is configured. sha256 "" when it was not computed."""

    key: str
    path: Path | None
    match: Match
    size_bytes: int = 0
    sha256: str = ""
    asset: Asset | None = None

    @property
    def usable(self) -> bool:
        """Whether rvcd would try to load it."""
        return self.match not in (Match.MISSING, Match.MISMATCH)


def weights_of(path: Path) -> Path:
    """Return the file that holds a model's weights: the path itself, or the weight file in a Transformers folder."""
    if path.is_dir():
        return next((path / name for name in WEIGHT_FILES if (path / name).is_file()), path / WEIGHT_FILES[-1])
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 lower-case hexadecimal digits. Raises ModelFileError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    return digest.hexdigest()


def examine(key: str, configured: str, expected_sha256: str = "", hashes: bool = True) -> AssetStatus:
    """Compare a configured model file with the expected checksum, or else with the published files.

    key: its name in [models]. configured: its path, "" for none. Reads the whole file, unless hashes is False: then only its size
    is compared. Raises ModelFileError when it cannot be read.
    """
    if not configured:
        return AssetStatus(key, None, Match.BUILT_IN)
    path = weights_of(Path(configured))
    if not path.is_file():
        return AssetStatus(key, path, Match.MISSING)
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    if not hashes:
        return AssetStatus(key, path, Match.UNKNOWN, size_bytes)
    sha256 = sha256_of(path)
    asset = next((a for a in ASSETS if a.key == key and sha256 == a.sha256), None)
    if expected_sha256:
        match = Match.VERIFIED if sha256 == expected_sha256 else Match.MISMATCH
    elif asset is not None:
        match = Match.VERIFIED
    else:
        asset = next((a for a in ASSETS if a.key == key and a.size_bytes == size_bytes and not a.sha256), None)
        match = Match.SIZE_ONLY if asset is not None else Match.UNKNOWN
    return AssetStatus(key, path, match, size_bytes, sha256, asset)
