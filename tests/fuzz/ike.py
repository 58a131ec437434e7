"""What charon says, and files with pre-shared keys: the codec, the table of SAs, the log."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from kl2tp.access.secretfile import SecretFileError
from kl2tp.ipsec.ike import psk
from kl2tp.ipsec.ike.causes import Facts, judge
from kl2tp.ipsec.ike.sas import Sas, parsed
from kl2tp.wire.vici import Section, ViciError, decode_message, decode_packet, encode_message

_NAME = "kl2tp:lns:x"
_LOG = Path(__file__).parents[1] / "unit" / "ipsec" / "ike" / "strongswan-5.9.8.log"


def _packet(data: bytes) -> None:
    with contextlib.suppress(ViciError):
        decode_packet(data)


def _message(data: bytes) -> None:
    """What is decoded is encoded to the same, unless a name came twice or was no text."""
    with contextlib.suppress(ViciError):
        found = decode_message(data)
        assert decode_message(encode_message(found)) == found


_EVENTS: tuple[Callable[[Sas, Section, bool], object], ...] = (
    lambda sas, section, up: sas.ike_updown(_NAME, section, up, 1.0),
    lambda sas, section, up: sas.child_updown(_NAME, section, up, 1.0),
    lambda sas, section, up: sas.ike_rekey(_NAME, section, 1.0),
    lambda sas, section, up: sas.child_rekey(_NAME, section, 1.0),
    lambda sas, section, up: sas.ike_update(_NAME, section, section),
    lambda sas, section, up: sas.replace([parsed(_NAME, section, 1.0)]),
    lambda sas, section, up: sas.orphan_all(),
    lambda sas, section, up: sas.expire(5000.0),
)


def _events(data: bytes) -> None:
    """Sections of events of all kinds, each chosen by its first byte."""
    sas = Sas()
    sas.many = frozenset((_NAME,))
    for part in data.split(b"\n"):
        with contextlib.suppress(ViciError):
            _EVENTS[part[0] % 8 if part else 0](sas, decode_message(part[1:]), bool(part and part[0] & 8))
    assert all(child.name == _NAME for child in sas.clients.values())


def _log(data: bytes) -> None:
    facts = Facts()
    for line in data.decode("utf-8", "backslashreplace").splitlines():
        judge(line, facts)


def _keys(data: bytes) -> None:
    with contextlib.suppress(SecretFileError):
        psk.parse("fuzz", data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "vici.packet": _packet,
    "vici.message": _message,
    "ike.events": _events,
    "ike.log": _log,
    "ike.psk": _keys,
}


def seeds() -> Iterator[bytes]:
    """Something to begin with."""
    child = {"name": "l2tp", "uniqueid": "1", "reqid": "1", "state": "INSTALLED", "spi-in": "c1", "spi-out": "c2"}
    sa = {"uniqueid": "1", "version": "2", "state": "ESTABLISHED", "remote-host": "10.0.0.1", "remote-port": "500"}
    up = encode_message({**sa, "child-sas": {"l2tp-1": child}})
    rekey = encode_message({**sa, "child-sas": {"l2tp": {"old": child, "new": {**child, "uniqueid": "2"}}}})
    yield up
    yield b"\x09" + up + b"\n\x03" + rekey + b"\n\x00" + encode_message(sa)
    yield b"\x02" + encode_message({"old": sa, "new": {**sa, "uniqueid": "2"}})
    yield b"\x07\x03log" + encode_message({"group": "IKE", "msg": "x"})
    yield b'203.0.113.7 0x00ff\n%any "with spaces"\n'
    for line in _LOG.read_text().splitlines()[::20]:
        yield line.split(" ", 4)[-1].encode()
