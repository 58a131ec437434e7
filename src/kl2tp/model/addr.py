"""IP addresses as packed bytes (4 or 16), the form in which the kernel takes and gives them.

Tens of thousands of addresses are compared and packed in one pass; bytes compare and copy at C speed, and the length
tells the family. Text exists only where a person reads or writes it.
"""

import socket

ANY4 = bytes(4)
ANY6 = bytes(16)


def family(addr: bytes) -> int:
    """The address family (AF_INET or AF_INET6) of a packed address."""
    return socket.AF_INET if len(addr) == 4 else socket.AF_INET6


def text(addr: bytes) -> str:
    """The canonical text of a packed address; the empty string for the empty address."""
    return socket.inet_ntop(family(addr), addr) if addr else ""


def parse(value: str) -> bytes:
    """Pack an address written as text. Raises ValueError if it is none (zones and ports are none)."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in value else socket.AF_INET, value)
    except (OSError, ValueError):
        raise ValueError(f"{value!r} is not an IPv4 or IPv6 address") from None


def network(addr: bytes, plen: int) -> bytes:
    """The network address: host bits cleared."""
    bits = len(addr) * 8
    return (int.from_bytes(addr) >> (bits - plen) << (bits - plen)).to_bytes(len(addr))


def prefix(addr: bytes, plen: int) -> str:
    """`ADDRESS/LENGTH` as text."""
    return f"{text(addr)}/{plen}"
