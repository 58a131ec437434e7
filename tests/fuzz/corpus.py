"""One message of every kind, as kl2tp encodes it: what fuzzing begins with."""

from collections.abc import Iterator

from kl2tp.kernel import l2tp, nft, nftrules, rtnl, xfrm
from kl2tp.kernel.netlink import Message
from kl2tp.model.objects import (
    Address,
    Clamp,
    Direction,
    Guard,
    Link,
    Policy,
    Route,
    Sa,
    Secret,
    Selector,
    Session,
    Template,
    Tunnel,
)
from kl2tp.model.spec import Encap, Mode

HERE, THERE = bytes((192, 0, 2, 1)), bytes((203, 0, 113, 7))
HERE6, THERE6 = b"\x20\x01" + bytes(13) + b"\1", b"\x20\x01" + bytes(13) + b"\2"


def _tunnels() -> Iterator[Message]:
    codec = l2tp.Codec(30)
    yield codec.tunnel_create(Tunnel("", 1, 2, Encap.UDP, HERE, THERE, 1701, 1702))
    yield codec.tunnel_create(Tunnel("", 1, 2, Encap.UDP, HERE6, THERE6, 1701, 1702, checksum=False))
    yield codec.tunnel_create(Tunnel("", 1, 2, Encap.IP, HERE6, THERE6))
    yield codec.session_create(Session("", 1, 3, 4, "l2tpeth0", b"12345678", b"1234", reorder_ms=10))


def _protection() -> Iterator[Message]:
    out = Selector(HERE, 32, THERE, 32, 17, 1701, 1702)
    back6 = Selector(THERE6, 128, bytes(16), 0, 115)
    key, mac = Secret(bytes(range(36))), Secret(bytes(range(32)))
    policies = (
        Policy("", Direction.OUT, out, 1000, Template(16, Mode.TRANSPORT, spi=0x1001), (1, 255)),
        Policy("", Direction.IN, back6, 2000, None),
        Policy("", Direction.OUT, out, 1000, Template(16, Mode.TUNNEL, HERE, THERE), None, "eth0"),
    )
    sas = (
        Sa("", HERE, THERE, 0x1001, Mode.TRANSPORT, 16, "rfc4106(gcm(aes))", key, mark=(1, 255)),
        Sa("", HERE6, THERE6, 0x1002, Mode.TUNNEL, 17, "cbc(aes)", key, False, 16, "hmac(sha256)", mac, 64, True, 1, 2),
    )
    for policy in policies:
        yield xfrm.policy_set(policy, lambda name: 7)
        yield xfrm.policy_delete(policy)
    for sa in sas:
        yield xfrm.sa_add(sa, lambda name: 7)
        yield xfrm.sa_delete(sa)


def messages() -> Iterator[Message]:
    """All of them."""
    yield from _tunnels()
    yield from _protection()
    yield rtnl.link_set(Link("", "l0", 1400, "br0", mac=b"123456", alias="kl2tp:a/b"), 3, set_master=True)
    yield rtnl.address_add(Address("", "l0", HERE, 24), 7)
    yield rtnl.route_add(Route("", 1000, THERE6, 64, 5, HERE6, "l0"), 7)
    elements = (Guard("", THERE), Guard("", THERE6, 1701, 1702), Clamp("", "l0", 1360, 1340))
    yield from nft._elements(nftrules.NEWSETELEM, 0, elements, with_data=True)
    yield from nftrules.new_table()
