"""Specs and key files for tests of the reconcile package."""

import base64
from pathlib import Path

from kl2tp.model.spec import Encap, InterfaceSpec, IpsecSpec, SessionSpec, TunnelSpec

HERE = bytes((192, 0, 2, 1))
KEYS = [f"key {base64.b64encode(bytes(range(n, n + 32))).decode()}" for n in range(3)]


def peer(number: int) -> bytes:
    """The address of some peer."""
    return bytes((203, 0, 113, number))


def key_file(directory: Path, *keys: int) -> str:
    """A shared key file with these of `KEYS`, as only its owner may read it."""
    path = directory / "peer.key"
    path.write_text("\n".join(KEYS[number] for number in keys) + "\n")
    path.chmod(0o600)
    return str(path)


def clear(number: int = 1, *, name: str = "", session: int = 1, **interface: object) -> TunnelSpec:
    """A tunnel without IPsec, with one session."""
    device = InterfaceSpec(f"l{number}", **interface)  # type: ignore[arg-type]
    sessions = (SessionSpec("s", session, session, device),)
    return TunnelSpec(name or f"t{number}", HERE, peer(number), number, 1000 + number, sessions=sessions)


def protected(key: str, number: int = 1, *, udp: bool = False, **ipsec: object) -> TunnelSpec:
    """A tunnel with IPsec, over IP or UDP."""
    wish = IpsecSpec("aes256gcm16", key, reqid=number, **ipsec)  # type: ignore[arg-type]
    ports = (2000 + number, 1701) if udp else (0, 0)
    device = InterfaceSpec(f"l{number}")
    return TunnelSpec(
        f"t{number}",
        HERE,
        peer(number),
        number,
        1000 + number,
        Encap.UDP if udp else Encap.IP,
        *ports,
        ipsec=wish,
        sessions=(SessionSpec("s", 1, 1, device),),
    )
