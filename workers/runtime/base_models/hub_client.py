"""The client that the hub's library speaks through, held to the rule on addresses.

The library has one client a process, and a factory for it; the client is httpx2, so the transport
of `app.domain.webhooks.outgoing`, which is httpx, does not fit.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory, hf_request_event_hook

from models_store.net.addresses import AddressRule, Resolve, lookup
from models_store.settings import Settings

_FIRST_MAX_BYTES = 64 * 2**20
"""Of a response before the sizes of files are known: lists, and facts of a file."""
_REDIRECTS = 5


@dataclass
class Bounds:
    """Limits of responses from now on."""

    max_bytes: int = _FIRST_MAX_BYTES


def use_checked_client(
    endpoint: str, *, rule: AddressRule | None = None, resolve: Resolve = lookup
) -> Bounds:
    """Let the hub's library connect to `endpoint`, and else to allowed addresses only.

    Where the environment names a proxy, the library's own client stays: which addresses may be
    reached is that proxy's affair. Time is bounded by the deadline of the work.

    Args:
        rule: what else may be reached; None: as the settings say.
    """
    bounds = Bounds()
    proxies = urllib.request.getproxies()
    if proxies.keys() & {"http", "https", "all"}:
        set_client_factory(default_client_factory)
        return bounds
    checked = rule or AddressRule.of(Settings())

    def make() -> httpx2.Client:
        return httpx2.Client(
            transport=_HubTransport(endpoint, checked, resolve, bounds),
            event_hooks={"request": [hf_request_event_hook]},
            follow_redirects=True,
            max_redirects=_REDIRECTS,
            timeout=None,
        )

    set_client_factory(make)
    return bounds


class _HubTransport(httpx2.BaseTransport):
    """Connects to the hub, and to checked addresses.

    Raises:
        AddressRefused: the request may not go there.
    """

    def __init__(self, endpoint: str, rule: AddressRule, resolve: Resolve, bounds: Bounds) -> None:
        self._trusted = _origin(httpx2.URL(endpoint))
        self._rule = rule
        self._resolve = resolve
        self._bounds = bounds
        self._hub = httpx2.HTTPTransport()
        # Connections are pooled by address, so one that is kept could serve another name than
        # the one its certificate was checked for.
        self._others = httpx2.HTTPTransport(limits=httpx2.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if _origin(request.url) == self._trusted:
            response = self._hub.handle_request(request)
        else:
            response = self._others.handle_request(self._pinned(request))
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Bounded(response.stream, self._bounds)
        return response

    def close(self) -> None:
        self._hub.close()
        self._others.close()

    def _pinned(self, request: httpx2.Request) -> httpx2.Request:
        """The same request to an address that was checked."""
        url = request.url
        host = url.raw_host.decode("ascii")
        self._rule.check_url(url.scheme, url.userinfo, host)
        port = url.port or (443 if url.scheme == "https" else 80)
        address = self._rule.check(host, self._resolve(host, port))[0]
        return httpx2.Request(
            request.method,
            url.copy_with(host=address),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )


class _Bounded(httpx2.SyncByteStream):
    """A body that must come to an end."""

    def __init__(self, stream: httpx2.SyncByteStream, bounds: Bounds) -> None:
        self._stream = stream
        self._bounds = bounds

    def __iter__(self) -> Iterator[bytes]:
        left = self._bounds.max_bytes
        for part in self._stream:
            left -= len(part)
            if left < 0:
                raise OSError(f"the hub sends more than {self._bounds.max_bytes} bytes in one go")
            yield part

    def close(self) -> None:
        self._stream.close()


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
