"""`rvcd assets fetch` as a whole: from a server, from a mirror, from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rvcd.errors import TransferError
from rvcd.transfer.assets import PUBLISHED_AT, Fetch, Outcome, check_space_for, fetch, origin, rules_for
from rvcd.transfer.http import Patience
from rvcd.voices.assets import Asset, AssetFile
from tests.transfer.server import WebServer, hang_up, redirect, sending, sha256, whole
from tests.transfer.shown import Noted

WEIGHTS, CONFIG = b"weights " * 40_000, b'{"hidden_size": 768}'
SMALL = Asset(
    "small", "content_encoder", "someone/models", "abc123",
    (AssetFile("small.pt", "nets/small.pt", len(WEIGHTS), sha256(WEIGHTS)),), "one file",
)  # fmt: skip
FOLDER = Asset(
    "folder", "encoders.folder", "someone/models", "abc123",
    (
        AssetFile("folder/config.json", "nets/f/config.json", len(CONFIG)),
        AssetFile("folder/pytorch_model.bin", "nets/f/pytorch_model.bin", len(WEIGHTS), sha256(WEIGHTS)),
    ),
    "a folder",
)  # fmt: skip
IMPATIENT = Patience(attempts=1)
PINNED, NEWEST = "/someone/models/resolve/abc123/nets", "/someone/models/resolve/main/nets"


def wanted(folder: Path, origin: str | Path, assets: tuple[Asset, ...] = (SMALL,), **more: object) -> Fetch:
    checksums: Mapping[str, str] = more.pop("checksums", {})  # type: ignore[assignment]
    return Fetch(assets, folder, origin, checksums, **more)  # type: ignore[arg-type]


def refusal(asset: Asset, request: Fetch) -> str:
    with pytest.raises(TransferError) as error:
        fetch(asset, request, Noted(), IMPATIENT)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_it_comes_from_the_revision_that_is_known(web: WebServer, tmp_path: Path) -> None:
    web.serve(f"{PINNED}/small.pt", redirect("/store/1234"))
    web.serve("/store/1234", whole(WEIGHTS))
    assert fetch(SMALL, wanted(tmp_path / "models", web.url), Noted()) is Outcome.FETCHED
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["small.pt"]
    assert (tmp_path / "models/small.pt").read_bytes() == WEIGHTS
    asked = len(web.asked)
    assert fetch(SMALL, wanted(tmp_path / "models", web.url), Noted()) is Outcome.PRESENT
    assert len(web.asked) == asked, "what is there is not asked for"


def test_a_mirror_that_has_only_the_newest_revision_will_do(web: WebServer, tmp_path: Path) -> None:
    web.serve(f"{NEWEST}/small.pt", whole(WEIGHTS))
    assert fetch(SMALL, wanted(tmp_path, web.url), Noted()) is Outcome.FETCHED
    assert (tmp_path / "small.pt").read_bytes() == WEIGHTS


def test_an_interrupted_fetch_leaves_no_file_of_that_name_and_is_gone_on_with(web: WebServer, tmp_path: Path) -> None:
    web.serve(f"{PINNED}/small.pt", sending(WEIGHTS, stop_at=100_000), hang_up)
    assert "100,000 bytes are kept" in refusal(SMALL, wanted(tmp_path, web.url))
    assert [path.name for path in tmp_path.iterdir()] == [".small.pt.part"]
    web.serve(f"{PINNED}/small.pt", whole(WEIGHTS))
    assert fetch(SMALL, wanted(tmp_path, web.url), Noted()) is Outcome.FETCHED
    assert [path.name for path in tmp_path.iterdir()] == ["small.pt"]
    assert web.headers_of(f"{PINNED}/small.pt")[-1]["Range"] == "bytes=100000-"


def test_a_folders_weights_come_last_so_that_it_is_whole_once_they_are_there(web: WebServer, tmp_path: Path) -> None:
    web.serve(f"{PINNED}/f/config.json", whole(CONFIG, etag=f'"{sha256(CONFIG)}"'))
    web.serve(f"{PINNED}/f/pytorch_model.bin", whole(b"x" * len(WEIGHTS)), whole(WEIGHTS))
    assert "has the SHA-256" in refusal(FOLDER, wanted(tmp_path, web.url))
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["config.json"]
    assert fetch(FOLDER, wanted(tmp_path, web.url), Noted()) is Outcome.FETCHED
    assert (tmp_path / "folder/pytorch_model.bin").read_bytes() == WEIGHTS


def test_a_file_of_that_name_that_is_something_else_is_kept_unless_forced(web: WebServer, tmp_path: Path) -> None:
    web.serve(f"{PINNED}/small.pt", whole(WEIGHTS))
    (tmp_path / "small.pt").write_bytes(b"mine")
    assert "is there, but is not the published file; --force replaces it" in refusal(SMALL, wanted(tmp_path, web.url))
    assert (tmp_path / "small.pt").read_bytes() == b"mine"
    assert fetch(SMALL, wanted(tmp_path, web.url, force=True), Noted()) is Outcome.FETCHED


def test_a_checksum_of_the_users_own_takes_the_place_of_the_published_one(web: WebServer, tmp_path: Path) -> None:
    other = b"another encoder"
    web.serve(f"{PINNED}/small.pt", whole(other))
    assert fetch(SMALL, wanted(tmp_path, web.url, checksums={"content_encoder": sha256(other)}), Noted()) is Outcome.FETCHED
    assert (tmp_path / "small.pt").read_bytes() == other
    (tmp_path / "small.pt").unlink()
    web.serve(f"{PINNED}/small.pt", whole(WEIGHTS))
    assert "has the SHA-256" in refusal(SMALL, wanted(tmp_path, web.url, checksums={"content_encoder": sha256(other)}))


# ---- from a folder


@pytest.mark.parametrize("name", ["small.pt", "nets/small.pt"])
def test_files_are_taken_from_a_folder_without_asking_anybody(web: WebServer, tmp_path: Path, name: str) -> None:
    source = tmp_path / "stick"
    (source / name).parent.mkdir(parents=True)
    (source / name).write_bytes(WEIGHTS)
    noted = Noted()
    assert fetch(SMALL, wanted(tmp_path / "models", source), noted) is Outcome.FETCHED
    assert (tmp_path / "models/small.pt").read_bytes() == WEIGHTS
    assert noted.seen[-1] == ("small.pt", len(WEIGHTS), len(WEIGHTS))
    assert web.asked == []


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "has no small.pt; put it there, as https://huggingface.co/someone/models has it"),
        (WEIGHTS[:-1], "has 319,999 bytes, not 320,000: it is another file, or not all of it"),
        (b"x" * len(WEIGHTS), "it is another file"),
    ],
)
def test_what_a_folder_has_is_checked_as_what_a_server_sends(tmp_path: Path, content: bytes | None, said: str) -> None:
    source, models = tmp_path / "stick", tmp_path / "models"
    source.mkdir()
    if content is not None:
        (source / "small.pt").write_bytes(content)
    assert said in refusal(SMALL, wanted(models, source))
    assert not models.exists() or list(models.iterdir()) == []


# ---- which server


def test_the_environments_mirror_comes_before_the_configured_one() -> None:
    assert origin("", {}) == PUBLISHED_AT == "https://huggingface.co"
    assert origin("https://mirror.test", {}) == "https://mirror.test"
    assert origin("https://mirror.test", {"HF_ENDPOINT": "http://127.0.0.1:8000/"}) == "http://127.0.0.1:8000"
    with pytest.raises(TransferError, match=r"HF_ENDPOINT: 'mirror\.test' is no address"):
        origin("", {"HF_ENDPOINT": "mirror.test"})


def test_only_a_server_that_the_user_named_may_be_on_a_private_network() -> None:
    assert not rules_for(PUBLISHED_AT).allow_private
    assert rules_for("http://192.168.1.2").allow_private


def test_the_space_for_all_of_it_is_asked_for_first(tmp_path: Path) -> None:
    huge = replace(SMALL, files=(replace(SMALL.weights, size_bytes=1 << 60),))
    with pytest.raises(TransferError, match=r"MB are free, and 1,152,921,504,607 MB are to be written"):
        check_space_for(wanted(tmp_path, "https://x", (SMALL, huge)))
    check_space_for(wanted(tmp_path, "https://x"))
