"""What is fuzzed: every decoder of bytes that come from outside, with the errors that it may raise."""

import contextlib
import json
import struct
from collections.abc import Callable, Iterator

from fuzz import control, endpoint, ike, login, ppp
from kl2tp.daemon.control import _request
from kl2tp.daemon.errors import ServiceError
from kl2tp.ipsec.keyfile import KeyFileError, parse
from kl2tp.kernel import events, l2tp, netlink, nft, rtnl, xfrm
from kl2tp.reconcile.ledger import decode_keys

NONSENSE = (struct.error, KeyError, IndexError, ValueError)
"""What a netlink decoder may raise: `events.Monitor.drain` takes it for a reason to look at everything."""


def _device(number: int) -> str:
    return f"#{number}"


DECODERS: dict[str, Callable[[bytes], object]] = {
    "netlink.error_in": lambda data: netlink.error_in(data[0], data[1:]),
    "l2tp.decode_tunnel": lambda data: l2tp.decode_tunnel("", data),
    "l2tp.decode_session": lambda data: l2tp.decode_session("", data),
    "l2tp.decode_statistics": l2tp.decode_statistics,
    "l2tp.tunnel_id": l2tp.tunnel_id,
    "rtnl.LinkState": rtnl.LinkState,
    "rtnl.decode_address": rtnl.decode_address,
    "rtnl.decode_route": lambda data: rtnl.decode_route("", data, _device),
    "rtnl.route_identity": rtnl.route_identity,
    "xfrm.decode_policy": lambda data: xfrm.decode_policy("", data, _device),
    "xfrm.decode_deleted_policy": lambda data: xfrm.decode_deleted_policy("", data, _device),
    "xfrm.decode_sa": lambda data: xfrm.decode_sa("", data, _device),
    "xfrm.decode_deleted_sa": lambda data: xfrm.decode_deleted_sa("", data, _device),
    "xfrm.sa_counters": xfrm.sa_counters,
    "xfrm.sa_event": lambda data: xfrm.sa_event(data[0], data[1:]),
    "xfrm.event_endpoint": lambda data: xfrm.event_endpoint(data[0], data[1:]),
    "nft.event": lambda data: nft.event(10 << 8 | data[0], "", data[1:]),
    **{
        f"events.{protocol}": lambda data, decode=decode: list(decode("", data[0] | data[1] << 8, data[2:]))  # type: ignore[misc]
        for protocol, decode in events._DECODERS.items()
    },
}
"""Decoders of netlink messages, which may raise `NONSENSE`."""


def _attributes(data: bytes) -> None:
    listed = list(netlink.attribute_list(data))
    assert dict(listed) == netlink.attributes(data)
    assert sum(len(value) + 4 for _, value in listed) <= len(data)


def _messages(data: bytes) -> None:
    found = list(netlink.messages(data))
    assert sum(len(payload) + 16 for *_, payload in found) <= len(data)


def _decoder(decode: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with contextlib.suppress(*NONSENSE):
            decode(data)

    return target


def _key_file(data: bytes) -> None:
    with contextlib.suppress(KeyFileError):
        parse("fuzz", data)


def _control_request(data: bytes) -> None:
    with contextlib.suppress(ServiceError):
        _request(data)


def _ledger_keys(data: bytes) -> None:
    with contextlib.suppress(ValueError, TypeError):
        decode_keys(data.decode("utf-8", "replace"))


def _whole_or_in_parts(data: bytes) -> None:
    """Messages cut out of one datagram are what they are alone."""
    for kind, flags, seq, pid, payload in netlink.messages(data):
        alone = netlink.HEADER.pack(16 + len(payload), kind, flags, seq, pid) + payload
        assert list(netlink.messages(alone)) == [(kind, flags, seq, pid, payload)]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "netlink.attributes": _attributes,
    "netlink.messages": _messages,
    "netlink.messages.alone": _whole_or_in_parts,
    **{name: _decoder(decode) for name, decode in DECODERS.items()},
    "ipsec.keyfile": _key_file,
    "control.request": _control_request,
    "ledger.keys": _ledger_keys,
    **control.TARGETS,
    **endpoint.TARGETS,
    **ike.TARGETS,
    **login.TARGETS,
    **ppp.TARGETS,
}
"""Each raises nothing, whatever it is given."""


def seeds() -> Iterator[bytes]:
    """Something to begin with: messages as we encode them."""
    from fuzz.corpus import messages

    for message in messages():
        yield message.payload
        yield netlink.HEADER.pack(16 + len(message.payload), message.type, message.flags, 1, 0) + message.payload
    yield json.dumps({"method": "status", "params": {}}).encode()
    yield b"key " + b"A" * 43 + b"=\n"
    yield from control.seeds()
    yield from endpoint.seeds()
    yield from ike.seeds()
    yield from login.seeds()
    yield from ppp.seeds()
