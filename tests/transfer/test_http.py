"""Where a download may lead: https, a trusted certificate, no address of this machine or of a private network unasked."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvcd.errors import TransferError
from rvcd.transfer import addresses
from rvcd.transfer import http as module
from rvcd.transfer.addresses import is_public
from rvcd.transfer.http import Patience, Rules, get
from tests.transfer.server import WebServer, certificate, redirect, serving, whole

PATIENT = Patience()
HERE = Rules(allow_private=True)


@pytest.mark.parametrize(
    "address, public",
    [
        ("8.8.8.8", True), ("2606:4700::1111", True),
        ("127.0.0.1", False), ("127.8.9.1", False), ("::1", False), ("0.0.0.0", False), ("::", False),
        ("10.0.0.1", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("fe80::1", False), ("fd00::1", False), ("fec0::1", False), ("224.0.0.1", False), ("ff02::1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False), ("192.0.2.1", False), ("2001:db8::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:8.8.8.8", True), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False), ("2002:c0a8:101::1", False),
    ],
)  # fmt: skip
def test_an_address_is_of_the_internet_or_not(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "10.1.2.3", "[::ffff:10.0.0.1]"])
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_no_address_of_this_machine_or_a_private_network_is_reached_unasked(host: str, scheme: str) -> None:
    with pytest.raises(TransferError, match="an address of this machine or of a private network"):
        get(f"{scheme}://{host}/x", Rules(), PATIENT)


@pytest.mark.parametrize(
    "url", ["ftp://example.org/x", "file:///etc/passwd", "example.org/x", "", "https://", "https:///x", "https://a b/c",
            "https://x/\n", "https://[::1/x", "https://user@127.0.0.1/", "javascript:1", "https://" + "x" * 9000],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(TransferError) as error:
        get(url, Rules(), PATIENT)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_what_follows_a_question_mark_may_be_a_secret_and_is_not_told(web: WebServer) -> None:
    with pytest.raises(TransferError) as error:
        get("https://10.0.0.1/x?token=hunter2", Rules(), PATIENT)
    assert "hunter2" not in str(error.value)
    with get(web.serve("/x", whole(b"1")) + "?token=hunter2", HERE, PATIENT) as response:
        assert "hunter2" not in response.url


class Names:
    """A name service for tests. 127.0.0.1 stands for an address of the internet, 127.0.0.2 for a private one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._system = socket.getaddrinfo
        monkeypatch.setattr(addresses.socket, "getaddrinfo", self._look_up)
        for module_with_it in (addresses, module):
            monkeypatch.setattr(module_with_it, "is_public", lambda address: str(address) == "127.0.0.1")

    def _look_up(self, host: str, port: Any, *args: Any, **more: Any) -> Any:
        if host not in self.known:
            return self._system(host, port, *args, **more)
        self.asked.append(host)
        answers = self.known[host]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: WebServer) -> Iterator[WebServer]:
    """https://voices.test, whose certificate is trusted. (`web` sees to it that there is no proxy.)"""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate: apt install openssl")
    pem = certificate(tmp_path, "voices.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with serving(context=context, name="voices.test") as server:
        yield server


def read(url: str, rules: Rules = Rules()) -> bytes:  # noqa: B008
    with get(url, rules, PATIENT) as response:
        return response.read(1000)


def test_a_name_is_looked_up_once_and_the_connection_goes_to_what_was_judged(secure: WebServer, names: Names) -> None:
    names.known["voices.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    assert read(secure.serve("/x", whole(b"voice"))) == b"voice"
    assert names.asked == ["voices.test"]
    host = secure.url.removeprefix("https://")
    assert secure.headers_of("/x")[0]["Host"] == host


def test_a_name_that_leads_into_a_private_network_is_refused(secure: WebServer, names: Names) -> None:
    names.known["voices.test"] = [["127.0.0.2"]]
    with pytest.raises(TransferError, match=r"^voices\.test: leads to 127\.0\.0\.2, an address of this machine or of a private"):
        read(secure.serve("/x", whole(b"voice")))
    assert secure.asked == []


def test_of_a_names_addresses_only_those_of_the_internet_are_tried(secure: WebServer, names: Names) -> None:
    names.known["voices.test"] = [["127.0.0.2", "127.0.0.1"]]
    assert read(secure.serve("/x", whole(b"voice"))) == b"voice"


def test_a_redirect_into_a_private_network_is_refused(secure: WebServer, names: Names) -> None:
    names.known |= {"voices.test": [["127.0.0.1"]], "router.test": [["127.0.0.2"]]}
    with pytest.raises(TransferError, match=r"^router\.test: leads to 127\.0\.0\.2"):
        read(secure.serve("/x", redirect("https://router.test/")))
    with pytest.raises(TransferError, match=r"leads to 127\.0\.0\.2"):
        read(secure.serve("/x", redirect("https://127.0.0.2/")))


@pytest.mark.parametrize("rules", [Rules(), HERE], ids=["usual", "private too"])
def test_a_redirect_from_https_to_http_is_refused(secure: WebServer, web: WebServer, names: Names, rules: Rules) -> None:
    names.known["voices.test"] = [["127.0.0.1"]]
    with pytest.raises(TransferError, match=r"redirects to http://127\.0\.0\.1:[0-9]+/y, which is not https; refused"):
        read(secure.serve("/x", redirect(web.serve("/y", whole(b"plain")))), rules)
    assert web.asked == []


def test_plain_http_is_spoken_to_a_private_address_that_was_asked_for_and_to_no_other(web: WebServer, names: Names) -> None:
    names.known |= {"voices.test": [["127.0.0.1"]], "nas.test": [["127.0.0.2"]]}
    web.serve("/x", whole(b"plain"))
    port = web.url.rpartition(":")[2]
    with pytest.raises(TransferError, match="is not https; it takes an https:// address"):
        read(f"http://voices.test:{port}/x", HERE)
    with serving("127.0.0.2") as nas:
        port = nas.url.rpartition(":")[2]
        nas.serve("/x", whole(b"plain"))
        assert read(f"http://nas.test:{port}/x", HERE) == b"plain"
        with pytest.raises(TransferError, match=r"nas\.test: leads to 127\.0\.0\.2"):
            read(f"http://nas.test:{port}/x")


def test_a_certificate_of_another_name_is_not_trusted(secure: WebServer, names: Names) -> None:
    names.known["other.test"] = [["127.0.0.1"]]
    url = secure.serve("/x", whole(b"voice")).replace("voices.test", "other.test")
    with pytest.raises(TransferError, match=r"its certificate cannot be trusted \(hostname 'other\.test' doesn't match"):
        read(url)
    assert secure.asked == []


def test_a_certificate_of_nobody_is_not_trusted(secure: WebServer, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    names.known["voices.test"] = [["127.0.0.1"]]
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(TransferError, match=r"its certificate cannot be trusted \(self.signed certificate"):
        read(secure.serve("/x", whole(b"voice")))


def test_a_server_that_is_not_there_is_a_sentence(web: WebServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(TransferError, match="the connection is refused"):
            read(f"http://127.0.0.1:{unused.getsockname()[1]}/x", HERE)


def test_a_name_of_nobody_is_a_sentence(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(addresses.socket, "getaddrinfo", nobody)
    with pytest.raises(TransferError, match=r"^x\.test: cannot be found \(name or service not known\); check the address and"):
        read("https://x.test/")


def test_a_proxy_of_the_environment_is_used_only_where_that_is_allowed(
    secure: WebServer, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", web.url)
    with pytest.raises(TransferError, match="would be asked for through the proxy of HTTPS_PROXY"):
        read("https://voices.test/x")
    with pytest.raises(TransferError):  # this server is no proxy: it is enough that it was asked
        read("https://voices.test/x", Rules(allow_proxy=True))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert read(web.serve("/x", whole(b"direct")), HERE) == b"direct"
