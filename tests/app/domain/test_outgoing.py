"""Requests to addresses of others: real servers on addresses of the loopback network, of which
the rule allows one and refuses the rest."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.webhooks.outgoing import Outgoing, OutgoingFailed, OutgoingResponse
from models_store.net.addresses import AddressRefused, AddressRule, is_public, lookup
from models_store.settings import networks

ALLOWED, FORBIDDEN = "127.0.0.1", "127.0.0.2"
RULE = AddressRule(networks(f"{ALLOWED}/32"), http=True)
PUBLIC_ONLY = AddressRule(http=True)


class Server(ThreadingHTTPServer):
    """Answers as told, and counts who asked."""

    daemon_threads = True

    def __init__(self, host: str, port: int = 0) -> None:
        super().__init__((host, port), _Answers)
        self.asked: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: said(handler, b"hi")
        self.gone = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


class _Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Host"] + self.path)
        self.server.answer(self)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


def said(handler: BaseHTTPRequestHandler, body: bytes, **headers: str) -> None:
    handler.send_response(200)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def redirect_to(target: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def running() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def run(host: str, port: int = 0, context: ssl.SSLContext | None = None) -> Server:
        server = Server(host, port)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield run
    for server in servers:
        server.gone.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(running: Callable[..., Server]) -> Server:
    return running(ALLOWED)


@pytest.fixture
def victim(running: Callable[..., Server], server: Server) -> Server:
    """On the same port of an address that no request may reach."""
    return running(FORBIDDEN, server.port)


def get(url: str, rule: AddressRule = RULE, **options: Any) -> OutgoingResponse:
    async def ask() -> OutgoingResponse:
        outgoing = Outgoing(rule, **{"seconds": 5, **options})
        try:
            return await outgoing.request("GET", url)
        finally:
            await outgoing.aclose()

    return asyncio.run(ask())


NOT_PUBLIC = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "2852039166",  # the same
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_no_spelling_of_an_address_in_the_house_is_connected_to(host: str) -> None:
    with pytest.raises(AddressRefused, match="not at a public address"):
        get(f"http://{host}/", PUBLIC_ONLY)


@pytest.mark.parametrize("host", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses_pass(host: str) -> None:
    PUBLIC_ONLY.check_url("https", b"", host)
    assert PUBLIC_ONLY.check("name", [host]) == [host]


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_wrapped_into_ipv6_is_never_public(inside: ipaddress.IPv4Address) -> None:
    for wrapped in (
        f"::ffff:{inside}",
        f"::{inside}",
        f"64:ff9b::{inside}",
        str(ipaddress.IPv6Address((0x2002 << 112) | (int(inside) << 80))),
        str(ipaddress.IPv6Address((0x20010000 << 96) | (int(inside) ^ 0xFFFFFFFF))),
    ):
        assert not is_public(ipaddress.ip_address(wrapped)), wrapped


@given(st.ip_addresses())
def test_what_is_public_is_nothing_else_besides(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    kinds = ("private", "loopback", "link_local", "multicast", "reserved", "unspecified")
    if is_public(address):
        assert address.is_global
        assert [kind for kind in kinds if getattr(address, f"is_{kind}")] == []


_BLOCKS = ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "100.64.0.0/10")


@given(
    st.sampled_from(_BLOCKS).flatmap(lambda block: st.ip_addresses(network=block)),
    st.sampled_from(["{0}", "{0:#x}", "0{0:o}", "{1}.{2}", "{1:#x}.{2}", "0{1:o}.{2:#x}"]),
)
def test_no_number_format_hides_an_address(address: ipaddress.IPv4Address, format: str) -> None:
    number = int(address)
    host = format.format(number, number >> 24, number & 0xFFFFFF)
    with pytest.raises(AddressRefused):
        PUBLIC_ONLY.check_url("http", b"", host)


_CONTEXT = ssl.create_default_context()


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=20))
def test_no_text_as_an_address_breaks_the_check(text: str, path: str) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises((AddressRefused, OutgoingFailed)):
        get(f"https://{text}/{path}", resolve=nowhere, verify=_CONTEXT)


def test_without_leave_only_https_goes_out() -> None:
    for url in ("http://1.1.1.1/", "ftp://1.1.1.1/", "file:///etc/passwd", "//1.1.1.1/", ""):
        with pytest.raises((AddressRefused, OutgoingFailed)):
            get(url, AddressRule())


def test_an_address_with_a_password_is_refused() -> None:
    with pytest.raises(AddressRefused, match="no user name"):
        get("https://me:secret@1.1.1.1/", AddressRule())


def test_a_network_that_the_operator_allows_is_reached(server: Server) -> None:
    answer = get(f"http://{ALLOWED}:{server.port}/hook")
    assert (answer.status, answer.body) == (200, b"hi")
    assert server.asked == [f"{ALLOWED}:{server.port}/hook"]


def test_a_name_that_changes_its_answer_gains_nothing(server: Server, victim: Server) -> None:
    answers = iter([[ALLOWED], [FORBIDDEN]])
    url = f"http://rebinding.example:{server.port}/"

    async def twice() -> None:
        outgoing = Outgoing(RULE, resolve=lambda host, port: next(answers))
        assert (await outgoing.request("GET", url)).status == 200
        with pytest.raises(AddressRefused):
            await outgoing.request("GET", url)
        await outgoing.aclose()

    asyncio.run(twice())
    # The first answer was checked and is what was connected to; the second one was refused.
    assert server.asked == [f"rebinding.example:{server.port}/"]
    assert victim.asked == []


def test_one_bad_address_among_good_ones_spoils_the_name(server: Server, victim: Server) -> None:
    for answers in ([ALLOWED, FORBIDDEN], [FORBIDDEN, ALLOWED], ["nonsense"], []):
        with pytest.raises(AddressRefused):
            get(f"http://some.example:{server.port}/", resolve=lambda *_, found=answers: found)
    assert server.asked == victim.asked == []


def test_the_next_address_of_a_name_is_tried_when_nobody_listens(server: Server) -> None:
    rule = AddressRule(networks("127.0.0.0/8"), http=True)
    answer = get(
        f"http://two.example:{server.port}/", rule, resolve=lambda *_: ["127.0.0.9", ALLOWED]
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    "host",
    [FORBIDDEN, "169.254.169.254", "[::ffff:127.0.0.2]", "[::1]", "0x7f.2", "2130706434", "0"],
)
def test_a_redirect_leads_nowhere_that_the_first_request_may_not_go(
    server: Server, victim: Server, host: str
) -> None:
    server.answer = redirect_to(f"http://{host}:{server.port}/")
    with pytest.raises(AddressRefused):
        get(f"http://{ALLOWED}:{server.port}/", redirects=5)
    assert victim.asked == []


def test_a_redirect_to_a_name_is_resolved_and_checked(server: Server, victim: Server) -> None:
    answers = iter([[ALLOWED], [FORBIDDEN]])
    server.answer = redirect_to(f"http://same.example:{server.port}/again")
    with pytest.raises(AddressRefused):
        get(
            f"http://same.example:{server.port}/",
            redirects=5,
            resolve=lambda *_: next(answers),
        )
    assert victim.asked == []


def test_redirects_are_bounded_and_off_at_first(server: Server) -> None:
    url = f"http://{ALLOWED}:{server.port}/"
    server.answer = redirect_to(url)
    assert get(url).status == 302
    assert len(server.asked) == 1
    with pytest.raises(OutgoingFailed, match="more than 3 redirects"):
        get(url, redirects=3)
    assert len(server.asked) == 5


def test_a_redirect_to_another_scheme_is_refused(server: Server) -> None:
    server.answer = redirect_to("ftp://1.1.1.1/")
    with pytest.raises((AddressRefused, OutgoingFailed)):
        get(f"http://{ALLOWED}:{server.port}/", redirects=3)


def _endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 10_000)


def test_an_endless_answer_is_cut(server: Server) -> None:
    server.answer = _endless
    with pytest.raises(OutgoingFailed, match="more than 65536 bytes"):
        get(f"http://{ALLOWED}:{server.port}/")


def test_what_unpacks_to_much_is_not_unpacked(server: Server) -> None:
    import gzip

    packed = gzip.compress(b"0" * 10_000_000)
    server.answer = lambda handler: said(handler, packed, **{"Content-Encoding": "gzip"})
    assert get(f"http://{ALLOWED}:{server.port}/").body == packed


@pytest.mark.parametrize("part", [b"x", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_an_answer_that_drips_is_cut_off_after_the_time_in_all(server: Server, part: bytes) -> None:
    """Each part comes soon after the one before, so a limit on each would never be reached."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        if part == b"x":
            handler.send_response(200)
            handler.end_headers()
        else:
            handler.wfile.write(part)
        while not server.gone.wait(0.05):
            handler.wfile.write(b"x")

    server.answer = drip
    began = time.monotonic()
    with pytest.raises(OutgoingFailed, match=r"no answer within 0\.5 seconds"):
        get(f"http://{ALLOWED}:{server.port}/", seconds=0.5)
    assert time.monotonic() - began < 3


def test_a_name_server_that_does_not_answer_costs_no_more_time(server: Server) -> None:
    released = threading.Event()

    def slow(host: str, port: int) -> list[str]:
        released.wait(5)
        return [ALLOWED]

    async def ask() -> float:
        outgoing = Outgoing(RULE, seconds=0.3, resolve=slow)
        began = time.monotonic()
        with pytest.raises(OutgoingFailed, match="no answer within"):
            await outgoing.request("GET", f"http://slow.example:{server.port}/")
        took = time.monotonic() - began
        released.set()
        await outgoing.aclose()
        return took

    assert asyncio.run(ask()) < 2


def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(
    running: Callable[..., Server], tmp_path: Path
) -> None:
    certificate = _certificate(tmp_path, "hooks.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)  # type: ignore[assignment]
    server = running(ALLOWED, 0, context)
    trusting = ssl.create_default_context(cafile=str(certificate))
    options: dict[str, Any] = {"resolve": lambda *_: [ALLOWED], "verify": trusting}

    assert get(f"https://hooks.example:{server.port}/", **options).status == 200
    with pytest.raises(OutgoingFailed, match="certificate"):
        get(f"https://other.example:{server.port}/", **options)
    with pytest.raises(OutgoingFailed, match="certificate"):
        get(f"https://hooks.example:{server.port}/", resolve=lambda *_: [ALLOWED])
    assert names == ["hooks.example", "other.example", "hooks.example"]
    assert server.asked == [f"hooks.example:{server.port}/"]


def test_the_system_resolver_reads_names(server: Server) -> None:
    assert ALLOWED in lookup("localhost", 80)
    with pytest.raises(AddressRefused):
        get("http://localhost/", PUBLIC_ONLY)


def test_a_proxy_of_the_environment_is_not_used(
    server: Server, victim: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{FORBIDDEN}:{victim.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert get(f"http://{ALLOWED}:{server.port}/").status == 200
    assert victim.asked == []


def _certificate(folder: Path, name: str) -> Path:
    """A file with a certificate for one name, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
