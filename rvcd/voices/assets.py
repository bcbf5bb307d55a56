"""The published files rvcd can use: what they are called, how to recognise them, what a given file is."""

from __future__ import annotations

import difflib
import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rvcd.config.settings import FETCHED_ENCODER, FETCHED_RMVPE
from rvcd.errors import ModelFileError, ParamError
from rvcd.formats.contentvec_header import weights_of


@dataclass(frozen=True)
class PublishedFile:
    """A file that rvcd recognises. key: the [models] key that names it. sha256 "" means that only the size is known."""

    key: str
    name: str
    size_bytes: int
    sha256: str
    doc: str


@dataclass(frozen=True)
class AssetFile:
    """One file of an asset. path: below models.folder. remote: below the repository.

    sha256 "": it is not known, and what the server says of the content must hold.
    """

    path: str
    remote: str
    size_bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class Asset:
    """What `rvcd assets fetch NAME` gets, the weights last. key: what uses it: of [models], or encoders.NAME.

    repository: on Hugging Face. revision: of it, so that the bytes stay what they were.
    """

    name: str
    key: str
    repository: str
    revision: str
    files: tuple[AssetFile, ...]
    doc: str

    @property
    def weights(self) -> AssetFile:
        """The file that matters."""
        return self.files[-1]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def page(self) -> str:
        """Where people find it."""
        return f"https://huggingface.co/{self.repository}"


RVC = ("lj1995/VoiceConversionWebUI", "e6d0c1a17da07c33557852f9dfa2bd44cc75737d")
"""RVC's own repository."""
APPLIO = ("IAHispano/Applio", "70ed563897504c756ec94067c12c902c4fd42025")
"""Applio's: the encoders its users train with."""
HUBERT_SHA256 = "f54b40fd2802423a5643779c4861af1e9ee9c1564dc9d32f54f20b5ffba7db96"
RMVPE_SHA256 = "6d62215f4306e3ca278246188607209f09af3dc77ed4232efdd069798c4ec193"


def _applio_encoder(name: str, folder: str, size_bytes: int, sha256: str, config_bytes: int, doc: str) -> Asset:
    """Return one of Applio's encoders, a Transformers folder."""
    files = (
        AssetFile(f"{name}/config.json", f"Resources/embedders/{folder}/config.json", config_bytes),
        AssetFile(f"{name}/pytorch_model.bin", f"Resources/embedders/{folder}/pytorch_model.bin", size_bytes, sha256),
    )
    return Asset(name, f"encoders.{name}", *APPLIO, files, doc)


ASSETS: tuple[Asset, ...] = (
    Asset(
        "content-encoder", "content_encoder", *RVC, (AssetFile(FETCHED_ENCODER, "hubert_base.pt", 189_507_909, HUBERT_SHA256),),
        "the content encoder of nearly all RVC voices (ContentVec)",
    ),
    Asset(
        "rmvpe", "rmvpe", *RVC, (AssetFile(FETCHED_RMVPE, "rmvpe.pt", 181_184_272, RMVPE_SHA256),),
        "pitch estimator for f0_method = \"rmvpe\"",
    ),
    _applio_encoder(
        "spin", "spin", 378_356_791, "057f12bfda54e2d486d86a52a3beb2a07c96a888bc6ac0c382c12ac18dbd500c", 1459,
        "encoder of Applio voices trained with spin",
    ),
    _applio_encoder(
        "spin-v2", "spin-v2", 378_356_791, "9a9ac0be326057b17607a988be497793817f8274e987cf691a1b61192510f823", 1492,
        "encoder of Applio voices trained with spin-v2",
    ),
    _applio_encoder(
        "japanese-hubert-base", "japanese_hubert_base", 377_554_841,
        "6c023ccb71e4c2b5a324c94fc5ebe12403d3081c5f370df229892419996fd113", 1375, "encoder of voices trained for Japanese",
    ),
    _applio_encoder(
        "chinese-hubert-base", "chinese_hubert_base", 377_552_987,
        "2fefccd26c2794a583b80f6f7210c721873cb7ebae2c1cde3baf9b27855e24d8", 1380, "encoder of voices trained for Chinese",
    ),
    _applio_encoder(
        "korean-hubert-base", "korean_hubert_base", 377_554_841,
        "931f6232879f8eadf7dbd9e00e1fa4cac61ad269af89d509b2ed75009b1a02c5", 1594, "encoder of voices trained for Korean",
    ),
)  # fmt: skip
PUBLISHED: tuple[PublishedFile, ...] = (
    PublishedFile("content_encoder", "hubert_base.pt", 189_507_909, HUBERT_SHA256, "content encoder, fairseq layout"),
    PublishedFile(
        "content_encoder", "hubert_base/pytorch_model.bin", 189_206_711,
        "cc8c20f4b90a520757260197a3ff2505705a7adbd20ad9eeaa4e1a9b38442ef5", "content encoder, Transformers layout",
    ),
    PublishedFile("rmvpe", "rmvpe.pt", 181_184_272, RMVPE_SHA256, "pitch estimator for f0_method = \"rmvpe\""),
    PublishedFile("rmvpe", "rmvpe.pt (second variant)", 181_189_687, "", "the same network, published with another checksum"),
)  # fmt: skip
"""Files that are recognised wherever they come from. Sizes and checksums are those that several projects pin."""
ALL = "all"


def assets_named(names: Sequence[str]) -> Sequence[Asset]:
    """Return the assets of these names, each once, in the table's order; ALL stands for every one. Raises ParamError."""
    known = {asset.name: asset for asset in ASSETS}
    for name in names:
        if name not in (*known, ALL):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ParamError(f"{name!r} is nothing that can be fetched{hint}; it takes {', '.join(known)} or {ALL}")
    return [asset for asset in ASSETS if ALL in names or asset.name in names]


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
    published: PublishedFile | None = None

    @property
    def usable(self) -> bool:
        """Whether rvcd would try to load it."""
        return self.match not in (Match.MISSING, Match.MISMATCH)


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
    published = next((a for a in PUBLISHED if a.key == key and sha256 == a.sha256), None)
    if expected_sha256:
        match = Match.VERIFIED if sha256 == expected_sha256 else Match.MISMATCH
    elif published is not None:
        match = Match.VERIFIED
    else:
        published = next((a for a in PUBLISHED if a.key == key and a.size_bytes == size_bytes and not a.sha256), None)
        match = Match.SIZE_ONLY if published is not None else Match.UNKNOWN
    return AssetStatus(key, path, match, size_bytes, sha256, published)
