"""Which addresses a request may go to when a tenant named them.

No library covers this: `httpx-secure` connects before it checks, `drawbridge` has no allowed
networks, and neither works with the hub's client, which is not httpx.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from models_store.settings import Settings, networks

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
"""Name and port to addresses; raises OSError where there are none."""

_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")

# Global in (some versions of) the standard library's tables, but not to be sent to.
_OTHER_V4 = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "100.64.0.0/10",  # carriers' NAT; Alibaba Cloud's metadata
        "168.63.129.16/32",  # Azure's metadata
        "192.0.0.0/24",  # protocol assignments; Oracle Cloud's metadata
        "192.88.99.0/24",  # relays of 6to4
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""All allocated unicast space; addresses that map or translate IPv4 (`::ffff:0:0/96`,
`64:ff9b::/96`, …), local and multicast ones lie outside."""
_OTHER_V6 = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments; Teredo carries IPv4
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries IPv4
        "3fff::/20",
    )
)


class AddressRefused(OSError):
    """A request may not go to this address."""


def is_public(address: Address) -> bool:
    """Whether the address is on the public Internet and not a cloud's metadata service."""
    if isinstance(address, ipaddress.IPv6Address):
        return (
            address in _GLOBAL_V6
            and address.is_global
            and not any(address in block for block in _OTHER_V6)
        )
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in block for block in _OTHER_V4)
    )


def lookup(host: str, port: int) -> list[str]:
    """Ask the system's resolver, which also reads `0x7f.1` and `2130706433` as addresses."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


@dataclass(frozen=True)
class AddressRule:
    """Public addresses over https, and what an operator allows besides."""

    allowed: tuple[Network, ...] = ()
    http: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(networks(settings.outgoing_allow), settings.outgoing_http)

    def check_url(self, scheme: str, userinfo: bytes, host: str) -> None:
        """Refuse what can be refused without using the network.

        Raises:
            AddressRefused: not https, a user name, no host, or a non-public address in any
                spelling.
        """
        if scheme != "https" and not (scheme == "http" and self.http):
            raise AddressRefused(f"a request goes out over https only, not over {scheme or 'none'}")
        if userinfo:
            raise AddressRefused("an address to send to has no user name or password in it")
        if not _HOST.fullmatch(host):
            raise AddressRefused("an address to send to names a host")
        try:
            spelled = socket.getaddrinfo(
                host, 443, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except (OSError, UnicodeError):
            return  # a name
        self.check(host, [str(entry[4][0]) for entry in spelled])

    def check(self, host: str, addresses: Sequence[str]) -> list[str]:
        """The addresses, if a request may go to every one of them.

        A single forbidden address is enough to refuse: who controls the name chooses which is used.

        Raises:
            AddressRefused: its message does not disclose the addresses.
        """
        if not addresses:
            raise AddressRefused(f"{host} has no address")
        if not all(self._may_go_to(address) for address in addresses):
            raise AddressRefused(f"{host} is not at a public address")
        return list(addresses)

    def _may_go_to(self, spelled: str) -> bool:
        try:
            address = ipaddress.ip_address(spelled)
        except ValueError:
            return False
        return is_public(address) or any(address in network for network in self.allowed)
