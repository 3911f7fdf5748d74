"""Fetching from addresses that others name."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chatplatform.outbound import FetchFailed, fetch, is_public, target_of
from chatplatform.testing.backend import KeyServer, running_key_server


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with running_key_server() as running:
        yield running


def failure(url: str, **more: Any) -> str:
    with pytest.raises(FetchFailed) as caught:
        fetch(url, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "x", "http://a.example/", "ftp://a.example/", "file:///etc/passwd", "https://", "https:///x", "//a.example",
     "https://user@a.example/", "https://u:p@a.example/", "https://a.example/#x", "https://a.example:x/",
     "https://a.example:99999/", "https://a .example/", "https://a.example/\r\nX: y", "https://é.example/",
     "https://[::1/", "javascript:alert(1)"],
)  # fmt: skip
def test_what_is_no_https_address_is_refused_before_anything_is_looked_up(url: str) -> None:
    with pytest.raises(FetchFailed):
        target_of(url)


def test_http_goes_with_private_addresses_alone() -> None:
    assert target_of("http://a.example:81/b?c=d", allow_private=True).netloc == "a.example:81"
    assert target_of("https://A.example").path == "/"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
     "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:1::1", "2001:db8::1", "ff02::1"],
)  # fmt: skip
def test_addresses_inside_are_told_whatever_they_are_written_like(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_addresses_outside_are_told_too(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0"],
)  # fmt: skip
def test_no_spelling_of_this_machine_is_reached(server: KeyServer, host: str) -> None:
    assert "public internet" in failure(f"https://{host}:{server.port}/")
    assert server.asked == 0


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert "public internet" in failure("https://both.example/")


def test_the_name_is_looked_up_once_and_the_connection_goes_where_that_led(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []

    def look_up(host: str, port: int, **_: Any) -> Any:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    hosts = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        hosts.append(handler.headers["Host"])
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"it")

    server.answer = answer
    assert fetch(f"http://keys.example:{server.port}/x", allow_private=True) == b"it"
    assert (looked_up, hosts) == (["keys.example"], [f"keys.example:{server.port}"])


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/elsewhere")
    handler.end_headers()


def too_much(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"x" * 1001)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte at a time: no single wait is long."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.02)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        handler.wfile.write(b"X-%d: y\r\n" % number)
        handler.wfile.flush()
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (redirect, "status 302"),
        (too_much, "larger than 1,000"),
        (lambda handler: handler.send_error(500), "status 500"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "broke off"),
        (lambda handler: None, "broke off"),
    ],
)
def test_what_is_no_answer_is_refused_and_redirects_are_not_followed(
    server: KeyServer, answer: Callable[[BaseHTTPRequestHandler], None], said: str
) -> None:
    server.answer = answer
    assert said in failure(server.url, allow_private=True, largest=1000)
    assert server.asked == 1


@pytest.mark.parametrize("answer", [drip, drip_headers])
def test_a_server_that_drips_is_cut_off_in_time(
    server: KeyServer, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    server.answer = answer
    began = time.monotonic()
    assert "No answer within 0.3 s" in failure(server.url, allow_private=True, seconds=0.3)
    assert time.monotonic() - began < 1.5


def test_nobody_there_is_a_plain_refusal(server: KeyServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    assert "cannot be reached" in failure(f"http://127.0.0.1:{free}/", allow_private=True)
    assert "not known" in failure("https://no-such-host.invalid/")


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with _tls_server(tmp_path) as port:
        said = failure(f"https://127.0.0.1:{port}/", allow_private=True)
    assert "certificate" in said


class _tls_server:
    """A TLS server with a certificate of its own making; as a context manager it is its port."""

    def __init__(self, folder: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(_certificate(folder))

    def __enter__(self) -> int:
        self.listener = socket.create_server(("127.0.0.1", 0))
        Thread(target=self._serve, daemon=True).start()
        port: int = self.listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        try:
            self.context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    encoding, no = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no)
    file.write_bytes(secret + certificate.public_bytes(encoding))
    return file


def test_what_was_fetched_is_what_was_there(server: KeyServer) -> None:
    assert fetch(server.url, allow_private=True) == b'{"keys": []}'
