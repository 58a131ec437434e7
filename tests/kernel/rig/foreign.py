"""What others have on a host: kl2tp must not touch it."""

from kernel.rig.net import Host, state
from kl2tp.kernel import l2tp, nft, rtnl, xfrm
from kl2tp.kernel.netlink import Message, string
from kl2tp.model.addr import parse
from kl2tp.model.objects import Direction, Policy, Route, Sa, Secret, Selector, Session, Template, Tunnel
from kl2tp.model.spec import Encap, Mode

DEVICE = "foreign0"
TUNNEL = 9001


def settle(host: Host) -> dict[str, str]:
    """Put something of every kind on a host; the lines of its state that must stay."""
    before = state(host).keys()
    ours, theirs = parse(f"192.0.2.{host.number}"), parse("192.0.2.200")
    host.request(
        l2tp.NETLINK_GENERIC,
        host.l2tp.tunnel_create(Tunnel("", TUNNEL, 9002, Encap.UDP, ours, theirs, 40001, 40002)),
        host.l2tp.session_create(Session("", TUNNEL, 90010, 90020, DEVICE, b"12345678", b"87654321")),
    )
    host.set_device(DEVICE, mtu=1333, alias="somebody's")
    host.add_address(DEVICE, "10.200.0.1", 24)
    host.add_bridge("br-foreign")
    host.set_device("br-foreign", mac=b"\x02\0\0\0\0\x0f")  # else it follows its ports
    host.add_address("br-foreign", "10.201.0.1", 24)
    route = rtnl.route_add(Route("", 254, parse("10.202.0.0"), 16, 5), host.index(DEVICE))
    static = route.payload[:5] + b"\x04" + route.payload[6:]
    selector = Selector(ours, 32, theirs, 32, 17, 5000, 5000)
    requests = [xfrm.policy_set(policy, int) for policy in policies(selector)]
    requests += [
        xfrm.sa_add(association(ours, theirs, 0x5001), int),
        xfrm.sa_add(association(theirs, ours, 0x5002), int),
    ]
    host.request(rtnl.NETLINK_ROUTE, route._replace(payload=static))
    host.request(xfrm.NETLINK_XFRM, *requests)
    _table(host)
    return {name: line for name, line in state(host).items() if name not in before}


def policies(selector: Selector) -> list[Policy]:
    """A policy that demands ESP, and one that blocks."""
    wide = Selector(selector.source, 32, bytes(4), 0, 17, 5001, 0)
    return [
        Policy("", Direction.OUT, selector, 1000, Template(0x5000, Mode.TRANSPORT)),
        Policy("", Direction.OUT, wide, 2000, None),
    ]


def association(source: bytes, destination: bytes, spi: int, reqid: int = 0x5000) -> Sa:
    """An SA of somebody else."""
    return Sa("", source, destination, spi, Mode.TRANSPORT, reqid, "rfc4106(gcm(aes))", Secret(bytes(36)))


def _table(host: Host) -> None:
    """A table of another name in nftables."""
    mark = Message(0x10, 0, b"\0\0\0\x0a"), Message(0x11, 0, b"\0\0\0\x0a")
    table = Message(10 << 8, 0x400, b"\x01\0\0\0" + string(1, "other"))
    host.netlink(nft.NETLINK_NETFILTER).transaction(mark[0], [table], mark[1])


def has_table(host: Host) -> bool:
    """Whether that table is still there."""
    get = Message(10 << 8 | 1, 0, b"\x01\0\0\0" + string(1, "other"))
    return not isinstance(host.netlink(nft.NETLINK_NETFILTER).get([get])[0], Exception)


def assert_untouched(host: Host, lines: dict[str, str]) -> None:
    """All that `settle` made is still as it was."""
    now = state(host)
    changed = {name: (line, now.get(name)) for name, line in lines.items() if now.get(name) != line}
    assert not changed, changed
    assert has_table(host)
