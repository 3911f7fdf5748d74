"""Fetching from addresses that customers name, so that nothing inside the network can be reached through us.

The name is resolved once, every address is looked at, and the connection goes to one of those: a name that means
another machine a moment later (DNS rebinding) gains nothing. Redirects are not followed; size and time have bounds.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Timer
from urllib.parse import urlencode, urlsplit

# Addresses that carry an IPv4 address, which a translator on the way may turn into one of our own network.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Places = list[tuple[int, str]]  # families and addresses


class FetchFailed(Exception):
    """Nothing was fetched; the text says why, for the person who named the address."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address to fetch from, taken apart. `port` is always set."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == PORTS[self.scheme] else f"{shown}:{self.port}"


PORTS = {"https": 443, "http": 80}


def target_of(url: str, *, allow_private: bool = False) -> Target:
    """A URL that may be fetched, taken apart; nothing is looked up. `http` goes with `allow_private` alone.

    Raises FetchFailed.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("ascii")
        url.encode("ascii")
    except ValueError as error:
        raise FetchFailed("It is not a URL.") from error
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise FetchFailed("A URL that begins with https://.")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise FetchFailed("A URL with a host, without a user name and without a fragment.")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise FetchFailed("A URL without blanks.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or PORTS[parts.scheme], path)


def fetch(
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    allow_private: bool = False,
    seconds: float = 3.0,
    largest: int = 200_000,
) -> bytes:
    """The body of a GET, or of a POST of this form, that is answered with 200. `seconds` are for the exchange; looking
    the name up may take longer.

    Raises FetchFailed.
    """
    target = target_of(url, allow_private=allow_private)
    addresses = _addresses(target, allow_private)
    try:
        with _connected(target, addresses, seconds) as connection:
            return _body(connection, target, form, headers or {}, largest)
    except TimeoutError as error:
        raise FetchFailed(f"No answer within {seconds:g} s.") from error
    except ssl.SSLError as error:
        raise FetchFailed("Its certificate is not valid for this name.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchFailed("It cannot be reached, or broke off.") from error


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, whatever form it is written in."""
    if isinstance(address, ipaddress.IPv6Address):
        if (mapped := address.ipv4_mapped) is not None:
            return is_public(mapped)
        if address.sixtofour or address.teredo or address in NAT64 or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _addresses(target: Target, allow_private: bool) -> Places:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchFailed("The name of its host is not known.") from error
    addresses: Places = [(family, str(place[0])) for family, _, _, _, place in found]
    # One that is private is enough: which of them would be taken is nobody's to choose.
    if not allow_private and not all(is_public(ipaddress.ip_address(one)) for _, one in addresses):
        raise FetchFailed("Its host is not on the public internet.")
    return addresses


@contextmanager
def _connected(target: Target, addresses: Places, seconds: float) -> Iterator[socket.socket]:
    """A connection that is cut after `seconds`, however slowly the other side sends."""
    raw = _first_that_answers(addresses, target.port, seconds)
    with contextlib.ExitStack() as stack:
        stack.callback(raw.close)
        if target.scheme == "https":
            context = ssl.create_default_context()
            raw = context.wrap_socket(raw, server_hostname=target.host, do_handshake_on_connect=False)
            stack.callback(raw.close)
        was_cut = Event()
        late = Timer(seconds, _cut, [raw, was_cut])
        late.daemon = True
        late.start()
        stack.callback(late.cancel)
        try:
            if isinstance(raw, ssl.SSLSocket):
                raw.do_handshake()
            yield raw
        except (OSError, http.client.HTTPException) as error:
            if was_cut.is_set():
                raise TimeoutError from error
            raise
        if was_cut.is_set():  # a body without a length ends so, too
            raise TimeoutError


def _cut(connection: socket.socket, was_cut: Event) -> None:
    was_cut.set()
    with contextlib.suppress(OSError):
        # Not SSLSocket's own, which would say goodbye first.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _first_that_answers(addresses: Places, port: int, seconds: float) -> socket.socket:
    failure: OSError = OSError("no address")
    for family, address in addresses[:2]:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(seconds)
        try:
            connection.connect((address, port))
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _body(
    connection: socket.socket,
    target: Target,
    form: Mapping[str, str] | None,
    headers: Mapping[str, str],
    largest: int,
) -> bytes:
    client = http.client.HTTPConnection(target.host, target.port)
    client.sock = connection  # so that it makes no connection of its own
    client.request(
        "GET" if form is None else "POST",
        target.path,
        None if form is None else urlencode(form),
        {
            "Host": target.netloc,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **({} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}),
            **headers,
        },
    )
    answer = client.getresponse()
    if answer.status != 200:
        raise FetchFailed(f"It answered with the status {answer.status}, not 200.")
    body = answer.read(largest + 1)
    if len(body) > largest:
        raise FetchFailed(f"Its answer is larger than {largest:,} bytes.")
    return body
