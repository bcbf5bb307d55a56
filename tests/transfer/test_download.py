"""One file from a server that cuts, stalls, lies and sends something else: the right bytes come, or a sentence and no file."""

from __future__ import annotations

import errno
import fcntl
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvcd.errors import TransferError
from rvcd.transfer import download as module
from rvcd.transfer.download import Download, check_space, download, part_of
from rvcd.transfer.http import Patience, Rules
from tests.transfer.server import (
    WebServer,
    chunked,
    drip,
    garbage,
    hang_up,
    redirect,
    sending,
    sha256,
    status,
    whole,
)
from tests.transfer.shown import Noted

CONTENT = bytes(range(256)) * 4000
HERE = Rules(allow_private=True)
PATIENT = Patience(stall_s=30, attempts=3)
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Case:
    """A download of CONTENT from /file, with no pauses in it."""

    def __init__(self, web: WebServer, folder: Path) -> None:
        self.web, self.noted, self.paused = web, Noted(), list[float]()
        self.wanted = Download("file", [web.url + "/file"], part_of(folder / "file"), len(CONTENT), len(CONTENT), sha256(CONTENT))

    def run(self, patience: Patience = PATIENT) -> bytes:
        download(self.wanted, HERE, self.noted, patience, self.paused.append)
        return self.wanted.part.read_bytes()

    def refusal(self, patience: Patience = PATIENT) -> str:
        with pytest.raises(TransferError) as error:
            self.run(patience)
        assert "\n" not in str(error.value)
        return str(error.value)


@pytest.fixture
def case(web: WebServer, tmp_path: Path) -> Case:
    return Case(web, tmp_path)


def test_a_file_comes_whole_and_its_progress_is_told(case: Case) -> None:
    case.web.serve("/file", whole(CONTENT))
    assert case.run() == CONTENT
    assert case.noted.seen[-1] == ("file", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in case.noted.seen] == sorted(done for _, done, _ in case.noted.seen)
    (headers,) = case.web.headers_of("/file")
    assert (headers["User-Agent"], headers["Accept-Encoding"]) == ("rvcd", "identity")
    assert set(headers) == {"User-Agent", "Accept-Encoding", "Host"}, "nothing is told about this machine"


def test_a_cut_connection_is_gone_on_with_where_it_ended(case: Case) -> None:
    case.web.serve("/file", sending(CONTENT, stop_at=300_000), sending(CONTENT, stop_at=300_000), whole(CONTENT))
    assert case.run() == CONTENT
    assert [headers.get("Range") for headers in case.web.headers_of("/file")] == [None, "bytes=300000-", "bytes=600000-"]
    assert case.paused == [1.0, 1.0], "what goes forward is not given up"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(CONTENT)), max_size=4), ranges=st.booleans())
def test_wherever_it_is_cut_the_bytes_are_the_right_ones(case: Case, cuts: list[int], ranges: bool) -> None:
    case.wanted.part.unlink(missing_ok=True)
    case.web.serve("/file", *(sending(CONTENT, stop_at=cut, ranges=ranges) for cut in cuts), whole(CONTENT))
    assert case.run(replace(PATIENT, attempts=9)) == CONTENT


def test_the_next_run_goes_on_from_what_an_interrupted_one_left(case: Case) -> None:
    case.web.serve("/file", sending(CONTENT, stop_at=500_000), hang_up)
    said = case.refusal()
    assert "the connection was cut, 3 times in a row; 500,000 bytes are kept, and the same command goes on from there" in said
    assert case.paused == [1.0, 2.0]
    assert case.wanted.part.read_bytes() == CONTENT[:500_000]
    case.web.serve("/file", whole(CONTENT))
    assert case.run() == CONTENT
    assert case.web.headers_of("/file")[-1]["Range"] == "bytes=500000-"


def test_a_whole_part_is_not_asked_for_again(case: Case) -> None:
    case.wanted.part.write_bytes(CONTENT)
    assert case.run() == CONTENT
    assert case.web.asked == []


def test_what_an_earlier_run_left_of_something_else_is_replaced(case: Case) -> None:
    case.wanted.part.write_bytes(b"?" * 1000)
    case.web.serve("/file", whole(CONTENT))
    assert case.run() == CONTENT
    assert [headers.get("Range") for headers in case.web.headers_of("/file")] == ["bytes=1000-", None]


def test_a_server_that_stalls_is_asked_again(case: Case) -> None:
    enough = threading.Event()
    case.web.serve("/file", sending(CONTENT, stop_at=100_000, stall=enough), whole(CONTENT))
    try:
        assert case.run(Patience(stall_s=0.3, attempts=50)) == CONTENT
    finally:
        enough.set()
    assert case.noted.waits[0] == ("the server sends nothing any more", 1.0)


def test_a_server_that_only_drips_is_given_up(case: Case) -> None:
    enough = threading.Event()
    patience = Patience(stall_s=5, window_s=0.1, least_bytes=1_000_000, attempts=2)
    try:
        case.wanted = replace(case.wanted, sha256="")
        case.web.serve("/file", drip(CONTENT, enough), status(404))
        assert "does not exist (status 404)" in case.refusal(patience)
    finally:
        enough.set()
    assert case.noted.waits == [("the server sends next to nothing", 1.0)]


@pytest.mark.parametrize(
    "answer, said",
    [
        (whole(CONTENT[:-1]), "has 1,023,999 bytes, not 1,024,000: it is another file"),
        (whole(CONTENT + b"x"), "has 1,024,001 bytes, not 1,024,000: it is another file"),
        (whole(b"x" * len(CONTENT)), f"not {sha256(CONTENT)}: another file; nothing is kept"),
        (whole(PAGE, kind="text/html"), "it is another file; it is a web page: is there a login page in between?"),
        (whole(PAGE.ljust(len(CONTENT)), kind="text/html"), "is a web page, not a file"),
        (chunked(CONTENT + b"more"), "sends more than the 1,024,000 bytes that it may have"),
        (status(404), "does not exist (status 404); check the address"),
        (status(403), "is not given to anybody (status 403)"),
        (status(401), "asks for a login (status 401)"),
        (status(200, CONTENT, Content_Encoding="gzip"), "is sent packed as gzip, which was not asked for"),
        (status(206, CONTENT), "no file (status 206)"),
        (status(204), "no file (status 204)"),
        (redirect("/file"), "redirects more than 8 times"),
        (status(302), "redirects to nowhere"),
        (redirect("ftp://127.0.0.1/x"), "is no address that can be downloaded from"),
        (redirect("http://user:secret@127.0.0.1/x"), "holds a name or a password"),
    ],
)  # fmt: skip
def test_something_else_is_refused_in_a_sentence_and_nothing_stays(case: Case, answer: Any, said: str) -> None:
    case.web.serve("/file", answer)
    assert said in case.refusal()
    assert list(case.wanted.part.parent.iterdir()) == []


@pytest.mark.parametrize(
    "answer, said",
    [
        (status(503), "the server is busy (status 503), 3 times in a row"),
        (hang_up, "the connection was cut, 3 times in a row"),
        (garbage, ", 3 times in a row; try again later"),
        (sending(b"", claim=len(CONTENT)), "the connection was cut, 3 times in a row"),
    ],
)
def test_what_may_pass_is_tried_again_for_a_while(case: Case, answer: Any, said: str) -> None:
    case.web.serve("/file", answer)
    assert said in case.refusal()
    assert case.paused == [1.0, 2.0]
    assert list(case.wanted.part.parent.iterdir()) == []


def test_a_server_that_sends_another_part_than_was_asked_for_is_asked_for_all(case: Case) -> None:
    case.wanted.part.write_bytes(CONTENT[:1000])
    wrong = status(206, CONTENT[2000:], Content_Range=f"bytes 2000-{len(CONTENT) - 1}/{len(CONTENT)}")
    case.web.serve("/file", wrong, whole(CONTENT))
    assert case.run() == CONTENT


def test_a_login_page_in_between_does_not_cost_what_has_come(case: Case) -> None:
    case.wanted.part.write_bytes(CONTENT[:1000])
    case.web.serve("/file", status(200, PAGE, Content_Type="text/html"))
    assert "web page" in case.refusal()
    assert case.wanted.part.read_bytes() == CONTENT[:1000]


def test_a_server_that_calls_the_range_wrong_is_asked_for_all(case: Case) -> None:
    case.wanted.part.write_bytes(CONTENT[:1000])
    case.web.serve("/file", status(416), whole(CONTENT))
    assert case.run() == CONTENT


def test_the_second_address_is_asked_where_the_first_has_no_such_file(case: Case) -> None:
    case.wanted = replace(case.wanted, urls=[case.web.url + "/gone", case.web.url + "/file"])
    case.web.serve("/file", whole(CONTENT))
    assert case.run() == CONTENT


def test_a_redirect_is_followed(case: Case) -> None:
    case.web.serve("/file", redirect("/there"))
    case.web.serve("/there", whole(CONTENT))
    assert case.run() == CONTENT


# ---- of unknown content


def test_without_a_known_length_the_bound_holds(case: Case) -> None:
    case.wanted = replace(case.wanted, size_bytes=None, sha256="", max_bytes=len(CONTENT))
    case.web.serve("/file", chunked(CONTENT))
    assert case.run() == CONTENT
    case.web.serve("/file", chunked(CONTENT + b"x"))
    assert "sends more than the 1,024,000 bytes" in case.refusal()
    case.web.serve("/file", whole(CONTENT + b"x"))
    assert "has 1,024,001 bytes, more than the 1,024,000 that it may have" in case.refusal()


def test_pieces_of_unknown_content_are_put_together_only_where_the_server_says_that_they_are_of_one_file(case: Case) -> None:
    case.wanted = replace(case.wanted, sha256="")
    case.web.serve("/file", sending(CONTENT, stop_at=1000, etag='"a"'), whole(CONTENT, etag='"a"'))
    assert case.run() == CONTENT
    assert case.web.headers_of("/file")[-1]["If-Range"] == '"a"'
    other = b"y" * len(CONTENT)
    case.web.serve("/file", sending(CONTENT, stop_at=1000, etag='"a"'), whole(other, etag='"b"'))
    assert case.run() == other
    case.web.serve("/file", sending(CONTENT, stop_at=1000), whole(other))
    assert case.run() == other
    assert "Range" not in case.web.headers_of("/file")[-1]


def test_an_earlier_runs_piece_of_unknown_content_is_not_used(case: Case) -> None:
    case.wanted = replace(case.wanted, sha256="")
    case.wanted.part.write_bytes(b"?" * 1000)
    case.web.serve("/file", whole(CONTENT))
    assert case.run() == CONTENT


GIT_BLOB = "9daeafb9864cf43055ae93beb0afd6c7d144bfa4"
"""`printf 'test\\n' | git hash-object --stdin`."""


@pytest.mark.parametrize(
    "etag, said",
    [
        (f'"{GIT_BLOB}"', ""),
        (f'"{sha256(b"test" + bytes([10]))}"', ""),
        (f'"{"0" * 40}"', "is not what the server's own checksum says"),
        (f'"{"0" * 64}"', "is not what the server's own checksum says"),
        ('"abc"', "comes without a checksum of the server's"),
        ("", "comes without a checksum of the server's"),
    ],
)
def test_where_no_checksum_is_known_the_servers_own_must_hold(case: Case, etag: str, said: str) -> None:
    case.wanted = replace(case.wanted, sha256="", by_server=True, size_bytes=5)
    case.web.serve("/file", whole(b"test\n", etag=etag))
    if said:
        assert said in case.refusal()
        assert not case.wanted.part.exists()
    else:
        assert case.run() == b"test\n"


def test_a_checksum_told_before_a_redirect_counts(case: Case) -> None:
    case.wanted = replace(case.wanted, sha256="", by_server=True)
    case.web.serve("/file", redirect("/there", X_Linked_ETag=f'"{sha256(CONTENT)}"'))
    case.web.serve("/there", whole(CONTENT, etag='"of-the-store"'))
    assert case.run() == CONTENT
    case.web.serve("/there", whole(b"y" * len(CONTENT), etag='"of-the-store"'))
    assert "is not what the server's own checksum says" in case.refusal()


# ---- this machine


def test_a_full_disk_is_told_before_anything_comes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.web.serve("/file", whole(CONTENT))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000})())
    assert "1 MB are free, and 1 MB are to be written, with 67 MB to spare" in case.refusal()
    assert list(case.wanted.part.parent.iterdir()) == []


def test_a_disk_that_becomes_full_is_a_sentence(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullFile:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    once = module._Transfer.__init__

    def onto_a_full_disk(self: Any, wanted: Any, file: Any, *others: Any) -> None:
        once(self, wanted, FullFile(file), *others)

    monkeypatch.setattr(module._Transfer, "__init__", onto_a_full_disk)
    case.web.serve("/file", whole(CONTENT))
    assert case.refusal().endswith(": the disk is full; free some space, then type the same again to go on")


def test_a_folder_that_cannot_be_written_is_a_sentence(case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    case.wanted = replace(case.wanted, part=tmp_path / "file" / "below" / "part")
    assert "cannot be written (" in case.refusal()


def test_two_downloads_of_one_file_do_not_mix(case: Case) -> None:
    with case.wanted.part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another download writes it; wait for that one to end" in case.refusal()


def test_a_link_in_the_place_of_the_part_is_not_written_through(case: Case, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    case.wanted.part.symlink_to(victim)
    case.web.serve("/file", whole(CONTENT))
    assert "cannot be written" in case.refusal()
    assert victim.read_text() == "precious"


def test_space_is_asked_of_the_disk_where_the_folder_will_be(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "yet", 1000)
    with pytest.raises(TransferError, match="MB are free"):
        check_space(tmp_path / "not" / "yet", 1 << 60)
