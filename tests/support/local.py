"""Clients of services on this machine."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody. To read whom a client trusts by default takes longer than to start the API."""


def local_client(url: str, timeout: float = 30.0, **options: Any) -> httpx.Client:
    """A client of a service at an `http://` address."""
    return httpx.Client(base_url=url, timeout=timeout, trust_env=False, verify=NO_TLS, **options)
