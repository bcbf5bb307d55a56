"""A voice's file by its address: what it is called, and that nothing of it stays when it will not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.errors import TransferError
from rvcd.transfer import voice as module
from rvcd.transfer.http import Patience
from rvcd.transfer.voice import SUFFIXES, fetch_voice_file, is_address, local_words
from tests.transfer.server import Answer, WebServer, chunked, redirect, status, whole
from tests.transfer.shown import Noted

ONCE = Patience(attempts=1)


def fetched(web: WebServer, folder: Path, path: str, *answers: Answer) -> Path:
    return fetch_voice_file(web.serve(path, *answers), folder, Noted(), allow_private=True, patience=ONCE)


def refusal(url: str, folder: Path, *, allow_private: bool = True) -> str:
    with pytest.raises(TransferError) as error:
        fetch_voice_file(url, folder, Noted(), allow_private=allow_private, patience=ONCE)
    assert list(folder.iterdir()) == []
    return str(error.value)


@pytest.mark.parametrize(
    "path, name",
    [
        ("/a/Anna.zip", "Anna.zip"), ("/Anna%20B.PTH", "Anna B.pth"), ("/x/added_IVF8_Flat_nprobe_1_a_v2.index", None),
        ("/..%2F..%2Fetc%2Fcron.pth", "cron.pth"), ("/%2E%2Ehidden.pth", "hidden.pth"),
        ("/.pth", "voice.pth"), ("/a%00b.pth", "a_b.pth"),
        ("/" + "long" * 60 + ".zip", ("long" * 25) + ".zip"),
    ],
)  # fmt: skip
def test_a_file_is_called_as_its_address_says_and_lies_in_the_folder(
    web: WebServer, tmp_path: Path, path: str, name: str | None
) -> None:
    web.serve("*", whole(b"content"))
    file = fetch_voice_file(web.url + path, tmp_path, Noted(), allow_private=True)
    assert file == tmp_path / (name or path.rpartition("/")[2])
    assert file.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [file]


@given(st.text())
def test_no_address_names_a_file_outside_the_folder(text: str) -> None:
    name = module._name_in(text)
    assert name == "" or (Path(name).name == name and name.endswith(SUFFIXES) and len(name.encode()) < 255)


def test_an_address_without_a_name_gets_it_from_the_server(web: WebServer, tmp_path: Path) -> None:
    named = status(200, b"voice", Content_Disposition='attachment; filename="Bob v2.pth"')
    assert fetched(web, tmp_path, "/download", named).name == "Bob v2.pth"
    web.serve("/files/Carl.zip", whole(b"voice"))
    assert fetched(web, tmp_path, "/latest", redirect("/files/Carl.zip")).name == "Carl.zip"


def test_what_follows_a_question_mark_is_no_part_of_the_name(web: WebServer, tmp_path: Path) -> None:
    web.serve("/Anna.zip", whole(b"voice"))
    file = fetch_voice_file(web.url + "/Anna.zip?download=true", tmp_path, Noted(), allow_private=True)
    assert file.name == "Anna.zip"


def test_a_file_that_cannot_be_a_voice_is_refused(web: WebServer, tmp_path: Path) -> None:
    said = refusal(web.serve("/song.mp3", whole(b"la la")), tmp_path)
    assert "names no file that can be imported; its name must end in .zip, .index, .pth, .pt or .safetensors" in said


def test_a_web_page_and_too_much_are_refused(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = b"<!doctype html><title>Anna.zip</title>"
    assert "is a web page, not a file" in refusal(web.serve("/Anna.zip", status(200, page, Content_Type="text/html")), tmp_path)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    assert "more than the 1,000 that it may have" in refusal(web.serve("/Anna.zip", whole(b"x" * 1001)), tmp_path)
    assert "more than the 1,000 bytes that it may have" in refusal(web.serve("/Anna.zip", chunked(b"x" * 1001)), tmp_path)


def test_two_files_of_one_name_are_refused(web: WebServer, tmp_path: Path) -> None:
    fetched(web, tmp_path, "/a/Anna.zip", whole(b"voice"))
    with pytest.raises(TransferError, match=r"is the second file called Anna\.zip"):
        fetched(web, tmp_path, "/b/Anna.zip", whole(b"voice"))
    assert [path.name for path in tmp_path.iterdir()] == ["Anna.zip"]


def test_this_machine_is_not_reached_unasked(web: WebServer, tmp_path: Path) -> None:
    said = refusal(web.serve("/Anna.zip", whole(b"voice")), tmp_path, allow_private=False)
    assert said.startswith("127.0.0.1: leads to 127.0.0.1, an address of this machine or of a private network")
    assert web.asked == []


def test_the_page_about_a_file_is_answered_with_the_files_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def page(*_: object, **__: object) -> None:
        raise TransferError("is a web page")

    monkeypatch.setattr(module, "download", page)
    said = refusal("https://huggingface.co/a/b/blob/main/Anna.zip", tmp_path)
    assert said.endswith("its own address is https://huggingface.co/a/b/resolve/main/Anna.zip")


def test_words_about_a_downloaded_file_are_words_about_its_address(tmp_path: Path) -> None:
    files = [(tmp_path / "Anna.zip", "https://x.test/Anna.zip?token=1")]
    said = local_words(f"{tmp_path / 'Anna.zip'}: holds no voice", files)
    assert said == "https://x.test/Anna.zip: holds no voice"


def test_an_address_is_told_from_a_path() -> None:
    assert is_address("https://x/y.zip") and is_address("ftp://x") and not is_address("a/b.zip") and not is_address("C:/x")
