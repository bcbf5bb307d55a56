"""One request over HTTP: redirects are followed by rvcd's own rules, and only an address that was looked at is connected to.

The rules: https, from the first address to the last; plain http only to an address of this machine or of a private network, and
those only with allow_private. The name is resolved once, its addresses are judged, and the connection goes to one of them: what
the name leads to a moment later does not matter. TLS is urllib3's and Python's, with the system's certificates.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, IncompleteRead, LocationParseError, ReadTimeoutError, SSLError
from urllib3.util import Timeout, Url, make_headers, parse_url

from rvcd.errors import TransferError
from rvcd.transfer.addresses import Address, allowed_addresses, is_public

MAX_REDIRECTS = 8
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"https": 443, "http": 80}
USER_AGENT = "rvcd"
LINKED_ETAG = "X-Linked-Etag"
"""By it Hugging Face tells the checksum of a large file, before it redirects to where the file lies."""
MAX_URL_CHARACTERS = 8192


class PassingError(TransferError):
    """Something that may go better the next time: a connection that was cut, a server that is busy."""


@dataclass(frozen=True)
class Rules:
    """allow_private: addresses of this machine and of private networks too, and plain http to them.

    allow_proxy: through a proxy of the environment, behind which no address can be judged.
    """

    allow_private: bool = False
    allow_proxy: bool = False


@dataclass(frozen=True)
class Patience:
    """How long a download waits. stall_s: for the next byte. A transfer of less than least_bytes in window_s counts as stalled.

    attempts: failures in a row, with nothing received in between. pause_s: before the second attempt; it doubles with each.
    """

    connect_s: float = 20.0
    stall_s: float = 30.0
    least_bytes: int = 16 << 10
    window_s: float = 60.0
    attempts: int = 5
    pause_s: float = 1.0


class Response:
    """An answer whose body is still to be read. Close it.

    url: for messages. etag: of this answer. checksum: of the whole content, by what the server says on the way to it.
    """

    def __init__(self, url: str, pool: Any, raw: urllib3.BaseHTTPResponse) -> None:
        self.url, self.status, self.headers = url, raw.status, raw.headers
        self.etag = self.checksum = raw.headers.get("ETag", "")
        self._pool, self._raw = pool, raw

    def read(self, size: int) -> bytes:
        """Return up to size bytes as soon as some are there, b"" at the end. Raises PassingError when the connection breaks."""
        try:
            return self._raw.read1(size)
        except (HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise PassingError(f"{self.url}: {_reason(error)}") from None

    def close(self) -> None:
        """End the connection: the rest of the body is not wanted."""
        self._raw.close()
        _close(self._pool)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def get(url: str, rules: Rules, patience: Patience, headers: Mapping[str, str] | None = None) -> Response:
    """Ask for an address and return the answer behind its redirects, whatever its status.

    Its body is as the server sends it: no compression is asked for, none is undone. Raises TransferError; PassingError where it
    may go better the next time.
    """
    checksum, first = "", url
    for _ in range(MAX_REDIRECTS + 1):
        response = _ask(_parsed(url), url, rules, patience, headers or {})
        checksum = checksum or response.headers.get(LINKED_ETAG, "")
        if response.status not in REDIRECTS:
            response.checksum = checksum or response.checksum
            return response
        target = response.headers.get("Location", "")
        response.close()
        if not target:
            raise TransferError(f"{url}: redirects to nowhere; check the address")
        url = _redirected(url, target)
    raise TransferError(f"{first}: redirects more than {MAX_REDIRECTS} times; check the address")


def _redirected(url: str, target: str) -> str:
    new = urljoin(url, target)
    if url.startswith("https:") and not new.lower().startswith("https:"):
        raise TransferError(
            f"{url}: redirects to {shown(new)}, which is not https; refused: ask for an address that stays with https"
        )
    return new


def _parsed(url: str) -> Url:
    if len(url) > MAX_URL_CHARACTERS or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise TransferError(f"{shown(url)}: is no address; write it as https://host/path, with %20 for a space")
    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise TransferError(
            f"{shown(url)}: is no address; write it as https://host/path, a foreign host's name as xn--..."
        ) from None
    if parsed.scheme not in PORTS or not parsed.host:
        raise TransferError(f"{shown(url)}: is no address that can be downloaded from; it takes https://host/path")
    if parsed.auth is not None:
        raise TransferError(f"{shown(url)}: holds a name or a password, which rvcd does not send; ask for an address without")
    return parsed


def _ask(parsed: Url, url: str, rules: Rules, patience: Patience, headers: Mapping[str, str]) -> Response:
    assert parsed.host is not None and parsed.scheme is not None
    host, port = parsed.host.strip("[]"), parsed.port or PORTS[parsed.scheme]
    shown_host = parsed.host if parsed.port is None else f"{parsed.host}:{parsed.port}"
    sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers, "Host": shown_host}
    timeout = Timeout(connect=patience.connect_s, read=patience.stall_s)
    if proxy := _proxy_for(parsed.scheme, host, rules, url):
        if parsed.scheme != "https":
            raise TransferError(f"{shown(url)}: is not https; it takes an https:// address")
        return _send(_proxied(proxy, timeout), url, url, sent)
    allowed = allowed_addresses(host, port, allow_private=rules.allow_private)
    if parsed.scheme == "http":
        allowed = [address for address in allowed if not is_public(address)]
        if not allowed:
            raise TransferError(f"{shown(url)}: is not https; it takes an https:// address")
    failure: PassingError | None = None
    for address in allowed:
        try:
            return _send(_pinned(parsed.scheme, address, host, port, timeout), parsed.request_uri, url, sent)
        except PassingError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _pinned(scheme: str, address: Address, host: str, port: int, timeout: Timeout) -> urllib3.HTTPConnectionPool:
    """Return connections to one address, whose certificate must be the host's."""
    if scheme == "http":
        return urllib3.HTTPConnectionPool(str(address), port, timeout=timeout, retries=False)
    return urllib3.HTTPSConnectionPool(
        str(address), port, timeout=timeout, retries=False,
        ssl_context=ssl.create_default_context(), server_hostname=host, assert_hostname=host,
    )  # fmt: skip


def _proxied(proxy: str, timeout: Timeout) -> urllib3.ProxyManager:
    auth = parse_url(proxy).auth
    return urllib3.ProxyManager(
        proxy, timeout=timeout, retries=False, ssl_context=ssl.create_default_context(),
        proxy_headers=make_headers(proxy_basic_auth=auth) if auth else None,
    )  # fmt: skip


def _proxy_for(scheme: str, host: str, rules: Rules, url: str) -> str:
    """Return the proxy that the environment names for a host, "" for none. Raises TransferError where none may be used."""
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    if not proxy or urllib.request.proxy_bypass(host):
        return ""
    if not rules.allow_proxy:
        raise TransferError(
            f"{shown(url)}: would be asked for through the proxy of {scheme.upper()}_PROXY, behind which rvcd cannot see whether "
            "it leads into a private network; download it yourself and name the file, or see --allow-private"
        )
    return proxy if "://" in proxy else f"http://{proxy}"


def _send(pool: Any, target: str, url: str, headers: Mapping[str, str]) -> Response:
    try:
        raw = pool.urlopen("GET", target, headers=dict(headers), redirect=False, retries=False, preload_content=False,
                           decode_content=False)  # fmt: skip
    except SSLError as error:
        _close(pool)
        raise TransferError(
            f"{shown(url)}: its certificate cannot be trusted ({_reason(error)}); check address, clock and ca-certificates"
        ) from None
    except (HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        _close(pool)
        raise PassingError(f"{shown(url)}: {_reason(error)}") from None
    return Response(shown(url), pool, raw)


def _close(pool: Any) -> None:
    """Close what a pool or a manager of pools holds open."""
    (pool.clear if hasattr(pool, "clear") else pool.close)()


def shown(url: str) -> str:
    """Return an address for messages: without what follows `?`, which may hold a secret, on one line of bounded length."""
    text = "".join(c if c.isprintable() else "?" for c in url.partition("?")[0])
    return text if len(text) <= 200 else text[:197] + "..."


def _reason(error: BaseException) -> str:
    """Say in plain words why a connection failed."""
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return "the server sends nothing any more"
    inner = _innermost(error)
    if isinstance(inner, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(inner, (ConnectionError, IncompleteRead, http.client.IncompleteRead)):
        return "the connection was cut"
    if isinstance(inner, TimeoutError) or type(error) is ConnectTimeoutError:
        return "the server does not answer"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return str(inner.verify_message).lower()
    if isinstance(inner, OSError) and inner.strerror and not isinstance(inner, ssl.SSLError):
        return inner.strerror.lower()
    text = " ".join(str(inner).split())[:120]
    return "".join(c if c.isprintable() else "?" for c in text) or type(inner).__name__


def _innermost(error: BaseException) -> BaseException:
    """Return what an error of the library was caused by, as far down as it is known."""
    for _ in range(8):
        below = error.__cause__ or error.__context__ or next((a for a in error.args if isinstance(a, BaseException)), None)
        if below is None:
            break
        error = below
    return error
