"""Requests to addresses that a tenant gives, such as those of webhooks.

Only https and only public addresses, checked after the name is resolved; the connection goes to the
very address that was checked, so that a name which answers otherwise the next time gains nothing.
Redirects are off unless enabled, and each hop is checked like the first. Time is bounded as a
whole, and so is what is read. Proxies of the environment are not used: behind one the address that
is connected to would be the proxy's affair.

Servers that the operator names (`SCALPEL_SCORERS`, `SCALPEL_DRAFT_URL`, `SCALPEL_VLLM_URL`, the S3
endpoint) are exempt: they usually are in the house.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import httpx

from models_store.net.addresses import AddressRefused, AddressRule, Resolve, lookup

_MOST_ADDRESSES = 3
"""Of one name that are tried."""
_RESOLVERS = 32
"""Threads of their own: a name server that answers slowly must not hold up anything else."""


class OutgoingFailed(OSError):
    """No response came, or none that can be used."""


@dataclass(frozen=True)
class OutgoingResponse:
    status: int
    body: bytes


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connects to checked addresses only; a connection serves one request.

    Raises:
        AddressRefused: the request may not go there.
        OSError: the name has no address.
    """

    def __init__(
        self,
        rule: AddressRule,
        resolve: Resolve = lookup,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._rule = rule
        self._resolve = resolve
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")
        self._verify = verify

    @cached_property
    def _inner(self) -> httpx.AsyncHTTPTransport:
        # Connections are pooled by address here, so one that is kept could serve another
        # name than the one its certificate was checked for.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        return httpx.AsyncHTTPTransport(
            verify=self._verify or httpx.create_ssl_context(), limits=limits
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii")
        self._rule.check_url(request.url.scheme, request.url.userinfo, host)
        loop = asyncio.get_running_loop()
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        resolved = await loop.run_in_executor(self._resolvers, self._resolve, host, port)
        addresses = self._rule.check(host, resolved)[:_MOST_ADDRESSES]
        failed: httpx.TransportError | None = None
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # with the original `Host`
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
        assert failed is not None
        raise failed

    async def aclose(self) -> None:
        self._resolvers.shutdown(wait=False, cancel_futures=True)
        if "_inner" in self.__dict__:
            await self._inner.aclose()


class Outgoing:
    """Sends requests to addresses that a tenant gives.

    Args:
        seconds: for a request as a whole, from the look-up of the name to the last byte.
        max_bytes: of a response's body.
        redirects: how many are followed.
    """

    def __init__(
        self,
        rule: AddressRule,
        *,
        seconds: float = 10.0,
        max_bytes: int = 64 * 1024,
        redirects: int = 0,
        resolve: Resolve = lookup,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self.rule = rule
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._redirects = redirects
        transport = CheckedTransport(rule, resolve, verify)
        self._http = httpx.AsyncClient(transport=transport, timeout=seconds, trust_env=False)

    async def request(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        read: bool = True,
    ) -> OutgoingResponse:
        """Send a request.

        Args:
            read: whether the body of the response matters; else it is left where it is.

        Raises:
            AddressRefused: it may not go there.
            OutgoingFailed: no connection, no response in time, too large a one, too many redirects.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._request(method, url, content, headers, read)
        except TimeoutError:
            raise OutgoingFailed(f"no answer within {self._seconds:g} seconds") from None
        except httpx.TimeoutException:
            raise OutgoingFailed(f"no answer within {self._seconds:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OutgoingFailed(_first_line(error)) from error
        except (AddressRefused, OutgoingFailed):
            raise
        except (OSError, UnicodeError) as error:
            raise OutgoingFailed(f"the name cannot be resolved: {_first_line(error)}") from error

    async def _request(
        self,
        method: str,
        url: str,
        content: bytes,
        headers: Mapping[str, str] | None,
        read: bool,
    ) -> OutgoingResponse:
        request = self._http.build_request(method, url, content=content, headers=headers)
        for _ in range(self._redirects + 1):
            response = await self._http.send(request, stream=True)
            try:
                if not self._redirects or response.next_request is None:
                    body = await self._body(response) if read else b""
                    return OutgoingResponse(response.status_code, body)
                request = response.next_request
            finally:
                await response.aclose()
        raise OutgoingFailed(f"more than {self._redirects} redirects")

    async def _body(self, response: httpx.Response) -> bytes:
        # Raw: a small response that unpacks to a large one stays small.
        body = b""
        async for part in response.aiter_raw():
            body += part
            if len(body) > self._max_bytes:
                raise OutgoingFailed(f"the answer has more than {self._max_bytes} bytes")
        return body

    async def aclose(self) -> None:
        await self._http.aclose()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
