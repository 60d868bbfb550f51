"""Clients that are slow, many, or send what grows: others are answered, memory stays bounded."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.security.api_process import ApiProcess, api_process
from tests.support.services import RedisServer, running_redis

MIB = 2**20
CONNECTIONS = int(os.environ.get("ABUSE_CONNECTIONS", "1500"))
"""10,000 by hand: twice as many open files are needed, half of them here."""
HEADERS = (
    b"POST /v1/edits/estimate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)


@pytest.fixture(scope="module")
def redis_of_module() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def api(
    redis_of_module: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiProcess]:
    with api_process(
        tmp_path_factory.mktemp("abuse"),
        redis_of_module.url,
        SCALPEL_HEADER_SECONDS="1",
        SCALPEL_BODY_SECONDS="1",
        SCALPEL_UNREAD_SECONDS="1",
        SCALPEL_LIMIT_REQUESTS_PER_SECOND="10000",
        SCALPEL_LIMIT_REQUEST_BURST="10000",
    ) as running:
        yield running


@contextlib.contextmanager
def grows_by_at_most(api: ApiProcess, mib: float) -> Iterator[None]:
    before = api.memory
    most = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most.append(api.memory)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert max(most) - before < mib * MIB


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            said += piece
    return said


def dribble(connection: socket.socket, pieces: Iterator[bytes], pause: float) -> float:
    """Send piece after piece; seconds until the server had enough."""
    started = time.monotonic()
    connection.settimeout(pause)
    for piece in pieces:
        assert time.monotonic() - started < 15, "the server waits for ever"
        try:
            connection.sendall(piece)
            if connection.recv(65536) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - started


def endless(piece: bytes, first: bytes = b"") -> Iterator[bytes]:
    if first:
        yield first
    while True:
        yield piece


def test_who_says_nothing_is_told_so_and_left(api: ApiProcess) -> None:
    with api.connect() as connection:
        said = read_all(connection)
    assert said.startswith(b"HTTP/1.1 408")
    assert b'"code": "request_timeout"' in said


def test_headers_that_come_a_byte_at_a_time_are_not_waited_for(api: ApiProcess) -> None:
    with api.connect() as connection:
        first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
        assert dribble(connection, endless(b"a", first), 0.1) < 5


def test_a_second_request_has_no_more_time_than_the_first(api: ApiProcess) -> None:
    with api.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert dribble(connection, endless(b"a", b"GET /healthz HTTP/1.1\r\nX-Slow: "), 0.1) < 5


def test_a_body_that_comes_a_byte_at_a_time_is_not_waited_for(api: ApiProcess) -> None:
    with api.connect() as connection:
        first = HEADERS + b"Content-Length: 100000\r\n\r\n{"
        assert dribble(connection, endless(b" ", first), 0.1) < 6
    with api.connect() as connection:
        first = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"
        assert dribble(connection, endless(b"1\r\n \r\n", first), 0.1) < 6


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(api: ApiProcess) -> None:
    with api.connect() as connection:
        first = b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
        assert dribble(connection, endless(b" ", first), 0.1) < 8


@pytest.mark.parametrize(
    "start", ["Content-Length: 300000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n493e0\r\n"]
)
def test_the_rest_of_a_body_that_was_refused_may_come_at_an_honest_pace(
    api: ApiProcess, start: str
) -> None:
    with api.connect() as connection:
        connection.sendall(f"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\n{start}".encode())
        said = connection.recv(65536)
        assert said.startswith(b"HTTP/1.1 404")
        while not said.endswith(b"}"):
            said += connection.recv(65536)
        for _ in range(10):
            connection.sendall(b" " * 30_000)
            time.sleep(0.25)
        if "chunked" in start:
            connection.sendall(b"\r\n0\r\n\r\n")
        time.sleep(2)  # longer than the headers of a request may take
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_body_without_end_that_was_refused_is_not_read_for_ever(api: ApiProcess) -> None:
    with api.connect() as connection:
        connection.sendall(
            b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n"
        )
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 160 * 2**20:
                sent += connection.send(b" " * 2**16)
        assert sent < 128 * 2**20


def test_a_large_body_at_an_honest_pace_is_taken(api: ApiProcess) -> None:
    body = b'{"base_model": "' + b"x" * 300_000 + b'"}'
    with api.connect() as connection:
        connection.sendall(HEADERS + f"Content-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), 30_000):
            connection.sendall(body[start : start + 30_000])
            time.sleep(0.25)  # longer in all than an idle body may take
        assert connection.recv(65536).startswith(b"HTTP/1.1 422")


def test_an_answer_that_nobody_reads_is_given_up(api: ApiProcess) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", api.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        given_up = False
        limit = time.monotonic() + 15
        while not given_up and time.monotonic() < limit:
            time.sleep(0.1)
            try:
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            except ConnectionError:
                given_up = True
    assert given_up


def test_headers_of_a_megabyte_are_refused_before_they_are_there(api: ApiProcess) -> None:
    with grows_by_at_most(api, 8):
        for _ in range(5):
            with api.connect() as connection:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * MIB)
                said = read_all(connection)
                assert said == b"" or said.startswith(b"HTTP/1.1 431")
        with api.connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * 40_000)
            said = read_all(connection)
    assert said.startswith(b"HTTP/1.1 431")
    assert b'"code": "headers_too_large"' in said


def test_many_headers_and_a_long_path_are_refused_likewise(api: ApiProcess) -> None:
    for request in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 8_000,
        b"GET /" + b"a" * 40_000,
    ):
        with api.connect() as connection:
            connection.sendall(request)
            assert read_all(connection).startswith(b"HTTP/1.1 431")


def test_what_is_no_http_is_refused(api: ApiProcess) -> None:
    with api.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        said = read_all(connection)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in said


def test_requests_that_come_before_a_response_are_answered_in_order(api: ApiProcess) -> None:
    """Many at once, so that they are parsed in several pieces; one of them with a body."""
    count = 500
    requests = [
        f"GET /v1/nothing/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n" for number in range(count)
    ]
    requests[7] = (
        "POST /v1/nothing/7 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "400\r\n"
        + "x" * 1024
        + "\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    requests[-1] = requests[-1].replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    with api.connect() as connection:
        connection.sendall("".join(requests).encode())
        said = read_all(connection)
    numbers = re.findall(rb'"detail":"there is no path /v1/nothing/([0-9]+)', said)
    assert [int(number) for number in numbers] == list(range(count))


def test_a_request_after_one_that_asks_for_another_protocol_is_answered(api: ApiProcess) -> None:
    upgrade = (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    )
    last = b"GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with api.connect() as connection:
        connection.sendall(upgrade + last)
        said = read_all(connection)
    assert re.findall(rb"HTTP/1.1 ([0-9]+)", said) == [b"200", b"404"]


@pytest.mark.parametrize("hosts", ["", "Host: localhost\r\nHost: localhost\r\n"])
def test_a_request_has_one_host(api: ApiProcess, hosts: str) -> None:
    with api.connect() as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\n{hosts}\r\n".encode())
        assert read_all(connection).startswith(b"HTTP/1.1 400")


def test_what_follows_a_body_is_no_header_of_the_request(api: ApiProcess) -> None:
    with api.connect() as connection:
        connection.sendall(
            HEADERS + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
            b"X-Request-Id: from-a-trailer\r\n\r\n"
        )
        said = read_all(connection)
    assert said.startswith(b"HTTP/1.1 422")
    assert b"from-a-trailer" not in said


def post(api: ApiProcess, body: bytes) -> httpx.Response:
    return httpx.post(
        f"{api.url}/v1/edits/estimate",
        content=body,
        headers={"Content-Type": "application/json"},
        timeout=60,
        trust_env=False,
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[" * 30 * MIB, 413, "body_too_large"),
        (b"[" * 5_000 + b"]" * 5_000, 400, "malformed_json"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, 400, "malformed_json"),
        (b"[" + b"[]," * 10 * MIB + b"[]]", 413, "body_too_large"),
        (b"[" + b"{}," * 10 * MIB + b"{}]", 413, "body_too_large"),
        (b"[" + b"0," * 15 * MIB + b"0]", 413, "body_too_large"),
        (b'{"a":1,"a":2}', 400, "malformed_json"),
        (b"{" + b",".join(b'"%d":1,"%d":1' % (n, n) for n in range(90_000)) + b"}", 400, None),
        (b'{"seed":' + b"9" * 10 * MIB + b"}", 422, "invalid_request"),
        (b'{"seed":1e' + b"9" * MIB + b"}", 422, "invalid_request"),
        (b'"' + b"\\u0041" * 5 * MIB, 400, "malformed_json"),
        (b'"' + b"\\" * 31 * MIB, 400, "malformed_json"),
    ],
    ids=lambda value: value[:24].decode() if isinstance(value, bytes) else None,
)
def test_json_that_would_grow_is_refused(
    api: ApiProcess, body: bytes, status: int, code: str | None
) -> None:
    with grows_by_at_most(api, 250):
        answer = post(api, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code or "malformed_json")


def test_brackets_in_texts_are_no_nesting(api: ApiProcess) -> None:
    text = b'"' + b'[{,\\"' * 400_000 + b'"'
    answer = post(api, b'{"base_model": ' + text + b"}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/base_model"


def test_a_query_has_a_hundred_parameters_at_most(api: ApiProcess) -> None:
    many = "&".join(f"metadata[k{n}]=v" for n in range(1_500))
    answer = httpx.get(f"{api.url}/v1/edits?{many}", trust_env=False, timeout=30)
    assert answer.status_code == 400
    assert "at most 100" in answer.json()["detail"]


def test_a_flood_of_tiny_chunks_is_cut_and_does_not_keep_others_waiting(api: ApiProcess) -> None:
    stop = threading.Event()
    cut = []

    def flood() -> None:
        while not stop.is_set():
            try:
                with api.connect() as connection:
                    connection.sendall(HEADERS + b"Transfer-Encoding: chunked\r\n\r\n")
                    while not stop.is_set():
                        connection.sendall(b"1\r\n \r\n" * 20_000)
            except ConnectionError:
                cut.append(True)

    threads = [threading.Thread(target=flood) for _ in range(2)]
    with grows_by_at_most(api, 120):
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.5)
            answered = [api.answers_within(2) for _ in range(5)]
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
    assert all(answered)
    assert cut


def test_chunks_of_a_few_dozen_bytes_are_taken(api: ApiProcess) -> None:
    chunk = b"20\r\n" + b" " * 32 + b"\r\n"
    with api.connect() as connection:
        connection.sendall(HEADERS + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20_000)
        connection.sendall(b"2\r\n{}\r\n0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 422")


def test_idle_and_half_open_connections_are_closed_for_others_and_take_little(
    redis_of_module: RedisServer, tmp_path: Path
) -> None:
    """As many as may be open, then half as many again; every third has sent half a request."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    settings = {"SCALPEL_HEADER_SECONDS": "600", "SCALPEL_MAX_CONNECTIONS": str(CONNECTIONS)}
    idle: list[socket.socket] = []
    try:
        with api_process(tmp_path, redis_of_module.url, **settings) as api:
            before = api.memory
            for number in range(CONNECTIONS + CONNECTIONS // 2):
                idle.append(api.connect())
                if number % 3 == 0:
                    idle[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
                if number % 500 == 0:
                    assert api.answers_within(5)

            assert all(api.answers_within(5) for _ in range(5))
            there, grown = api.open_connections, (api.memory - before) / MIB
            print(f"{there} of {len(idle)} are open, of {files[1]} files, {grown:.0f} MiB more")
            assert CONNECTIONS * 0.95 < there <= CONNECTIONS
            assert grown < 0.05 * CONNECTIONS + 20
            # The oldest went first; the newest is there and is served.
            assert read_all(idle[0]) == b""
            idle[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle[-1].recv(65536).startswith(b"HTTP/1.1 200")
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
