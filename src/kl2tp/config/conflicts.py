"""What only one may have: names, ids, endpoints, devices, addresses, routes.

A second claim is an error that names both places. A claim is one look-up in a dictionary, so that ten
thousand tunnels are checked in a few hundredths of a second.
"""

from typing import TypeAlias

from kl2tp.config.problem import Mark, Problems
from kl2tp.model import addr
from kl2tp.model.ike import IkeSpec
from kl2tp.model.spec import Encap, RouteSpec

Claim: TypeAlias = tuple[Mark, str]
"""Where something was claimed, and by what."""
Table: TypeAlias = dict[object, Claim]
Paths: TypeAlias = dict[tuple[str, bytes, tuple[int, int]], Claim]
"""By (namespace, remote, ports)."""

CHARON_PORTS = (500, 4500)
"""UDP ports of IKE and of ESP in UDP, RFC 3947 and 3948: charon has them at every address."""


def _text(claim: Claim) -> str:
    mark, owner = claim
    return f"{owner} at {mark.name}:{mark.line + 1}:{mark.column + 1}"


def _in(netns: str) -> str:
    return f" in the namespace {netns}" if netns else ""


class Claims:
    """All that has been claimed so far."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.names: Table = {}
        self.tunnels: Table = {}
        self.reqids: Table = {}
        self.ports: Table = {}
        self.nat_ports: Table = {}
        self.sessions_over_ip: Table = {}
        self.sessions_over_udp: Table = {}
        self.protected_pairs: Table = {}
        self.protected: Paths = {}
        self.clear: Paths = {}
        self.connections: Table = {}
        self.charon: Claim | None = None
        """The first for whom charon is needed."""
        self.devices: Table = {}
        self.masters: Table = {}
        self.macs: Table = {}
        self.addresses: Table = {}
        self.routes: dict[object, tuple[Claim, object]] = {}

    def refuse(self, claim: Claim, first: Claim, what: str, hint: str, kind: str) -> None:
        """Report the second of two claims."""
        self.problems.add(claim[0], f"{claim[1]}: {what} {_text(first)}", hint, kind)

    def name(self, name: str, claim: Claim) -> None:
        """A tunnel's name."""
        first = self.names.setdefault(name, claim)
        if first is not claim:
            self.refuse(claim, first, "the name is taken by", "names are unique over all files and sets", "name")

    def tunnel(self, netns: str, number: int, claim: Claim) -> bool:
        """A local tunnel id. False if it was taken."""
        first = self.tunnels.setdefault((netns, number), claim)
        if first is not claim:
            what = f"the local tunnel id {number} is taken{_in(netns)} by"
            self.refuse(claim, first, what, "give each tunnel an id of its own before the slash", "tunnel")
        return first is claim

    def reqid(self, netns: str, number: int, claim: Claim) -> None:
        """The reqid of a protected tunnel."""
        first = self.reqids.setdefault((netns, number), claim)
        if first is not claim:
            what = f"the reqid {number:#x} is taken by"
            self.refuse(claim, first, what, "leave reqid out: it follows from the tunnel id", "reqid")

    def session(self, netns: str, encap: Encap, number: int, claim: Claim) -> None:
        """A local session id: one for the whole host as soon as one of two tunnels runs over IP."""
        key = (netns, number)
        mine = self.sessions_over_ip if encap == Encap.IP else self.sessions_over_udp
        first = self.sessions_over_ip.get(key)
        if first is None and encap == Encap.IP:
            first = self.sessions_over_udp.get(key)
        mine.setdefault(key, claim)
        if first is not None:
            what = f"the local session id {number} is taken by"
            hint = "with encapsulation ip they are unique per host: leave ids out to use the tunnel's"
            self.refuse(claim, first, what, hint, "session")

    def port(self, netns: str, local: bytes, port: int, claim: Claim) -> None:
        """A local UDP address and port: the kernel's own tunnel sockets share none."""
        key = (netns, local, port)
        first = self.ports.setdefault(key, claim)
        if first is not claim:
            what = f"the local address {addr.text(local)} port {port} is taken{_in(netns)} by"
            hint = "give each tunnel a local port of its own, as in ports: 20001/1701, or use encapsulation: ip"
            self.refuse(claim, first, what, hint, "port")
        elif key in self.nat_ports:
            self._both_uses(claim, self.nat_ports[key], port)
        self._charon_too(netns, port, claim)

    def nat_port(self, netns: str, local: bytes, port: int, claim: Claim) -> None:
        """A local UDP port for ESP: tunnels share it, but not with L2TP."""
        key = (netns, local, port)
        self.nat_ports.setdefault(key, claim)
        if key in self.ports:
            self._both_uses(claim, self.ports[key], port)
        self._charon_too(netns, port, claim)

    def _both_uses(self, claim: Claim, first: Claim, port: int) -> None:
        what = f"the port {port} can't serve both L2TP and ESP in UDP; see"
        self.refuse(claim, first, what, "nat_traversal usually is 4500/4500", "nat")

    def ike(self, local: bytes, remote: bytes, ike: IkeSpec, claim: Claim) -> None:
        """A tunnel's connection in charon, which knows the ends by who they say they are, but no ports.

        If two connections are between the same two identities, it takes each for the other made anew, and ends it.
        """
        first = self.connections.setdefault(_identities(local, remote, ike), claim)
        if first is not claim:
            what = f"IKE can't tell this tunnel to {addr.text(remote)} from the one of"
            hint = "use one tunnel with several sessions, or give an end of each another local_id and remote_id"
            self.refuse(claim, first, what, hint, "connection")
        if self.charon is None:
            self.charon = claim
            for table in (self.ports, self.nat_ports):
                for key, other in table.items():
                    if isinstance(key, tuple):
                        self._charon_too(key[0], key[2], other)

    def _charon_too(self, netns: str, port: int, claim: Claim) -> None:
        if port in CHARON_PORTS and self.charon is not None and not netns:
            what = f"the UDP port {port} is charon's, which serves"
            hint = "choose another one; where it is for nat_traversal on both ends, as in 4510/4510"
            self.refuse(claim, self.charon, what, hint, "charon")

    def path(
        self, netns: str, ends: tuple[bytes, bytes], ports: tuple[int, int], protected: bool, claim: Claim
    ) -> None:
        """Protection is by selector, which must tell tunnels apart. Ports: (0, 0) with encapsulation ip."""
        local, remote = ends
        key = (netns, remote, ports)
        (self.protected if protected else self.clear).setdefault(key, claim)
        other = (self.clear if protected else self.protected).get(key)
        if other is not None:
            mine, yours = ("protected", "clear") if protected else ("clear", "protected")
            what = f"this tunnel is {mine}, and to the same peer {addr.text(remote)} there is the {yours}"
            hint = "the protected one blocks the other: protect both, or use udp with other ports for one"
            self.refuse(claim, other, what, hint, "mixed")
        if not protected or ports != (0, 0):
            return
        first = self.protected_pairs.setdefault((netns, local, remote), claim)
        if first is not claim:
            what = f"a second protected tunnel over ip from {addr.text(local)} to {addr.text(remote)}, beside"
            hint = "use one tunnel with several sessions, or encapsulation udp with distinct ports"
            self.refuse(claim, first, what, hint, "pair")

    def device(self, netns: str, name: str, claim: Claim) -> None:
        """A network device's name in one namespace."""
        key = (netns, name)
        first = self.devices.setdefault(key, claim)
        if first is not claim:
            what = f"the interface name {name!r} is taken{_in(netns)} by"
            self.refuse(claim, first, what, "give each session's interface a name of its own", "device")
        elif key in self.masters:
            self._master_too(name, claim, self.masters[key])

    def master(self, netns: str, name: str, claim: Claim) -> None:
        """A bridge or VRF that is used."""
        key = (netns, name)
        self.masters.setdefault(key, claim)
        if key in self.devices:
            self._master_too(name, claim, self.devices[key])

    def _master_too(self, name: str, claim: Claim, first: Claim) -> None:
        what = f"{name!r} can't be both a session's interface and a bridge or VRF; see"
        self.refuse(claim, first, what, "rename the interface", "master")

    def mac(self, netns: str, bridge: str, mac: bytes, claim: Claim) -> None:
        """A MAC address among the ports of one bridge."""
        first = self.macs.setdefault((netns, bridge, mac), claim)
        if first is not claim:
            what = f"the MAC address {mac.hex(':')} is taken in the bridge {bridge} by"
            self.refuse(claim, first, what, "leave mac out, or give each interface its own", "mac")

    def address(self, domain: tuple[str, str], address: bytes, claim: Claim) -> None:
        """An address in one routing domain (namespace, VRF)."""
        first = self.addresses.setdefault((domain, address), claim)
        if first is not claim:
            what = f"the address {addr.text(address)} is taken by"
            self.refuse(claim, first, what, "give each interface an address of its own", "address")

    def route(self, domain: tuple[str, str], route: RouteSpec, device: str, claim: Claim) -> None:
        """A destination in one routing table. Two tunnels to one peer may ask for the very same route."""
        metric = route.metric or (1024 if len(route.destination) == 16 else 0)
        table = domain if route.table == 254 else (domain[0], route.table)
        key = (table, route.destination, route.prefix_length, metric)
        way = (route.via, device)
        first, way_of_first = self.routes.setdefault(key, (claim, way))
        if first is not claim and way != way_of_first:
            what = f"the route to {addr.prefix(route.destination, route.prefix_length)} leads elsewhere for"
            self.refuse(claim, first, what, "give one of them another metric or table", "route")


def _identities(local: bytes, remote: bytes, ike: IkeSpec) -> tuple[object, object]:
    """Who the two ends of a tunnel are to charon, as far as the configuration says."""
    theirs = ike.remote_id if ike.remote_id and ike.remote_id[0] not in "%*" else remote
    return ike.local_id or ike.certificate_files or local, theirs
