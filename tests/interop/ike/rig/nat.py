"""A router with a NAT, and the network behind it: a Linux box as in most homes, that masquerades."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from interop.rig.process import kill_all, run
from kernel.rig.net import Host, Wire
from kl2tp.kernel import netns, rtnl
from kl2tp.kernel.netlink import Message, attr, attributes, string, u32
from kl2tp.model.addr import parse
from kl2tp.model.objects import Route

_NETFILTER, _CONNTRACK_GET, _CONNTRACK_DELETE = 12, 1 << 8 | 1, 1 << 8 | 2
_ORIGINAL, _REPLY = 1, 2
_ADDRESSES, _PORTS = 1, 2
_SOURCE, _DESTINATION = 1, 2
_PROTOCOL, _DESTINATION_PORT = 1, 3
_IFINFO = bytes(16)
_IFINFO_UP = struct.pack("=8xII", 1, 1)
_LINK_NETNS_FD, _LINKINFO, _MASTER = 28, 18, 10
_CREATE = 0x600
_RULES = """\
table ip nat
delete table ip nat
table ip nat {{
    chain postrouting {{
        type nat hook postrouting priority 100
        oifname "wire" masquerade {how}
    }}
}}
"""


class Nat:
    """A router on the wire; who is behind it has 10.77.NETWORK.NUMBER and is seen as the router's address outside.

    Of several who use the same port the first keeps it and the others get another one; with `random` nobody keeps his.
    """

    def __init__(self, wire: Wire, name: str, number: int, *, network: int = 0, random: bool = False) -> None:
        self.host = Host(name)
        self._network = network
        self._hosts: list[Host] = []
        wire.plug(self.host, number)
        self.host.add_bridge("bridge")
        self.host.add_address("bridge", self.address(254), 24)
        with self.host.entered(), open("/proc/sys/net/ipv4/ip_forward", "w") as switch:
            switch.write("1")
        self._rule(random=random)

    def address(self, number: int) -> str:
        """Behind the NAT."""
        return f"10.77.{self._network}.{number}"

    def plug(self, host: Host, number: int) -> None:
        """Put a host behind the NAT: its device is `wire`, its way out leads through here."""
        host.number = number
        target = netns.open_namespace(host.name)
        try:
            peer = attr(1, _IFINFO + string(3, "wire") + u32(_LINK_NETNS_FD, target))
            veth = attr(_LINKINFO, string(1, "veth") + attr(2, peer))
            body = _IFINFO_UP + string(3, f"port{number}") + veth + u32(_MASTER, self.host.index("bridge"))
            self.host.request(rtnl.NETLINK_ROUTE, Message(rtnl.RTM_NEWLINK, _CREATE, body))
        finally:
            os.close(target)
        host.set_device("wire", mac=bytes((2, 0, 0, 77, self._network, number)))
        host.add_address("wire", self.address(number), 24)
        default = Route("", 254, bytes(4), 0, 0, parse(self.address(254)))
        host.request(rtnl.NETLINK_ROUTE, rtnl.route_add(default, host.index("wire")))

    def add(self, name: str, number: int) -> Host:
        """A new host behind it."""
        host = Host(name)
        self._hosts.append(host)
        self.plug(host, number)
        return host

    def delete(self) -> None:
        """It ends, with all that is behind it."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.host.delete)
            for host in self._hosts:
                stack.callback(host.delete)
                stack.callback(kill_all, host)

    def ports(self) -> set[int]:
        """From which it speaks for those behind it, as it knows."""
        found = set()
        for reply in self.host.netlink(_NETFILTER).dump(_CONNTRACK_GET, b"\x02\0\0\0"):
            sent, answer = (attributes(attributes(reply.payload, 4)[way], 0) for way in (_ORIGINAL, _REPLY))
            ports = attributes(answer[_PORTS], 0)
            source, seen_as = attributes(sent[_ADDRESSES], 0)[_SOURCE], attributes(answer[_ADDRESSES], 0)[_DESTINATION]
            if ports[_PROTOCOL][0] == socket.IPPROTO_UDP and source != seen_as:
                found.add(int.from_bytes(ports[_DESTINATION_PORT]))
        return found

    def _rule(self, *, random: bool) -> None:
        run(self.host, "/usr/sbin/nft", _RULES.format(how="fully-random" if random else ""))

    def forget(self, *, random: bool) -> None:
        """The router restarts: what it knew of its connections is gone."""
        self._rule(random=random)
        self.host.request(_NETFILTER, Message(_CONNTRACK_DELETE, 0, b"\x02\0\0\0"))


@contextlib.contextmanager
def behind(nat: Nat) -> Iterator[Nat]:
    """It is there while the block runs."""
    try:
        yield nat
    finally:
        nat.delete()
