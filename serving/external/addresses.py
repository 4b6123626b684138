"""Where a replica may stand, so that nobody makes the house call addresses it should not.

An address on the internet is called over https alone. One in a private network, or on this machine,
only where EXTERNAL_ENGINE_NETWORKS names its network. Link-local addresses (a cloud's metadata),
multicast and reserved ones never are. A name is resolved once for each call and the address that
was checked is the one that is called, so a name that changes its mind gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from serving.errors import BadAddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address: `url` to call, `host` to name in the request and in the certificate."""

    url: str
    host: str
    authority: str


def normalised(url: str) -> str:
    """The base URL without a slash or "/v1" at its end.

    Raises BadAddress for anything but http(s)://host[:port][/path].
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise BadAddress("This is no web address.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAddress("Write the address as https://host:port, as the server is reached.")
    if parts.username or parts.password:
        raise BadAddress("Put the key into its own field, not into the address.")
    if parts.query or parts.fragment or "\\" in url or any(c.isspace() for c in url.strip()):
        raise BadAddress("The address ends with its host, or with a path.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}"


def target(base_url: str) -> Target:
    """Resolve and check. Raises BadAddress."""
    parts = urlsplit(base_url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = _resolved(host, port)
    check(address, secure=secure)
    literal = f"[{address}]" if address.version == 6 else str(address)
    authority = parts.netloc
    return Target(f"{parts.scheme}://{literal}:{port}{parts.path}", host, authority)


def check(address: Address, *, secure: bool) -> None:
    """Raises BadAddress where the house does not call this address."""
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and not address.is_loopback)
    ):
        raise BadAddress(f"{address} is an address that no server has.")
    if any(address in network for network in _networks() if network.version == address.version):
        return
    if not address.is_global:
        raise BadAddress(
            f"{address} is in a private network. Name the network in EXTERNAL_ENGINE_NETWORKS."
        )
    if not secure:
        raise BadAddress("A server on the internet is called over https, for its key and prompts.")


def _networks() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(one) for one in settings.EXTERNAL_ENGINE_NETWORKS]


def _resolved(host: str, port: int) -> Address:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadAddress(f"The name {host[:100]} is not known.") from error
    addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    # IPv4 first: a server in a container often listens there alone.
    return min(addresses, key=lambda one: one.version)
