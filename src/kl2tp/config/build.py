"""Fields to specs: what the keys of one tunnel mean together.

Each step judges on its own: a value that is wrong (`Broken`) silences only what depends on it, so that one
run finds all that can be found.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kl2tp.config.conflicts import Claims
from kl2tp.config.draft import Draft
from kl2tp.config.fields import Bases, Broken, Fields, unknown
from kl2tp.config.ike_schema import IKE
from kl2tp.config.problem import Mark, Problems, where
from kl2tp.config.protection import ProtectionBuilder
from kl2tp.config.scalar import link_local, version
from kl2tp.config.schema import INTERFACE, IPSEC, SESSION, SET, TUNNEL
from kl2tp.config.sessions import SessionBuilder
from kl2tp.model import addr
from kl2tp.model.overhead import Stack, stack_of
from kl2tp.model.spec import Encap, RouteSpec, TunnelSpec, Where

T = TypeVar("T")

MAX_TUNNELS = 200_000


def bases(defaults: Fields | None) -> Bases:
    """What each section inherits."""
    ipsec = _part(defaults, "ipsec")
    return {
        TUNNEL: defaults,
        SET: defaults,
        IPSEC: ipsec,
        IKE: _part(ipsec, "ike"),
        SESSION: _part(defaults, "session"),
        INTERFACE: _part(defaults, "interface"),
    }


def _part(defaults: Fields | None, key: str) -> Fields | None:
    if defaults is None:
        return None
    try:
        part: Fields | None = defaults.get(key)
    except Broken:
        section = defaults.section.keys[key].section
        assert section is not None
        return unknown(section, defaults.mark)
    return part


def _addresses_place(draft: Draft, session: str) -> Mark:
    fields: Fields = draft.fields.get("sessions")[session][0]
    interface: Fields = fields.get("interface")
    return interface.place("addresses")


class Builder:
    """Builds tunnels one after the other, and checks each against all before it."""

    def __init__(self, problems: Problems, inherited: Bases) -> None:
        self.problems = problems
        self.claims = Claims(problems)
        self.protection = ProtectionBuilder(problems, self.claims, inherited[IPSEC])
        self.sessions = SessionBuilder(problems, self.claims, inherited[INTERFACE])
        self.tunnels: list[TunnelSpec] = []
        self._count = 0
        self._full = False
        self._shared: dict[Any, Any] = {}
        self._mtus: dict[tuple[Stack, int], int] = {}
        self._where: tuple[Mark | None, Where] = (None, Where("", 0, 0))

    def add(self, drafts: Sequence[Draft]) -> bool:
        """Add tunnels, or report what is wrong with them. False if there are too many.

        Each step is done for all of them before the next: that is a tenth faster, as a step's code stays in the
        processor's cache.
        """
        self._count += len(drafts)
        if self._count > MAX_TUNNELS:
            self._too_many(drafts[-1].mark)
            return False
        for draft in drafts:
            self.claims.name(draft.name, (draft.mark, draft.name))
        for step in self._steps():
            for draft in drafts:
                try:
                    step(draft)
                except Broken:
                    continue
        for draft in drafts:
            try:
                spec = self._spec(draft)
            except Broken:
                continue
            self._ipv6_fits(draft, spec)
            self.tunnels.append(spec)
        return True

    def _too_many(self, mark: Mark) -> None:
        if not self._full:
            self._full = True
            message = f"there are more than {MAX_TUNNELS:,} tunnels"
            self.problems.add(mark, message, "split them over several hosts", "count")

    def _ipv6_fits(self, draft: Draft, spec: TunnelSpec) -> None:
        """An interface whose MTU is computed can carry IPv6 only if 1280 bytes are left (RFC 8200 5)."""
        for session in spec.sessions:
            interface = session.interface
            six = any(len(address) == 16 for address, _ in interface.addresses)
            if interface.mtu is not None or not six:
                continue
            stack = stack_of(spec, session)
            mtu = self._mtus.get((stack, spec.path_mtu)) or stack.mtu(spec.path_mtu)
            self._mtus[stack, spec.path_mtu] = mtu
            if mtu < 1280:
                message = f"{spec.name}/{session.name}: a path_mtu of {spec.path_mtu} leaves it {mtu} bytes"
                hint = "IPv6 needs 1280: raise path_mtu, or leave the IPv6 addresses out"
                self.problems.add(_addresses_place(draft, session.name), message, hint, "fit")

    def _steps(self) -> tuple[Callable[[Draft], None], ...]:
        """Not kept in self: that would be a cycle, and all claims would wait for the garbage collector."""
        return (
            self._ids,
            self._local,
            self._remote,
            self._ends,
            self._ports,
            self._path_mtu,
            self._route,
            self.protection.build,
            self._secret,
            self._paths,
            self._sessions,
        )

    def _spec(self, draft: Draft) -> TunnelSpec:
        ids, ports = draft.ids, draft.ports
        return TunnelSpec(
            draft.name,
            draft.local,
            draft.remote,
            ids[0],
            ids[1],
            draft.encap,
            ports[0],
            ports[1],
            draft.fields.get("checksum", True) if draft.encap == Encap.UDP else True,
            draft.netns,
            draft.path_mtu,
            draft.route,
            draft.route_device,
            draft.ipsec,
            draft.secret_file,
            draft.sessions,
            draft.ike,
            self._place(draft.mark),
        )

    def _place(self, mark: Mark) -> Where:
        """The tunnels of a set share their place."""
        if self._where[0] is not mark:
            self._where = (mark, where(mark))
        return self._where[1]

    def _share(self, value: T) -> T:
        """An equal value that is there already, so that each is kept once."""
        shared: T = self._shared.setdefault(value, value)
        return shared

    def _required(self, draft: Draft, key: str) -> Any:
        """The value of a key that must be there. Raises `Broken`."""
        value = draft.fields.get(key)
        if value is None:
            hint = f"e.g. {key}: {TUNNEL.keys[key].eg}"
            self.problems.add(draft.mark, f"{draft.name}: {key} is missing", hint, key)
            raise Broken
        return value

    def _ids(self, draft: Draft) -> None:
        draft.netns = draft.fields.get("netns", "")
        draft.ids = self._required(draft, "ids")
        claim = (draft.fields.place("ids"), draft.name)
        draft.ids_taken = not self.claims.tunnel(draft.netns, draft.ids[0], claim)

    def _local(self, draft: Draft) -> None:
        draft.local = self._share(self._required(draft, "local"))

    def _remote(self, draft: Draft) -> None:
        draft.remote = self._required(draft, "remote")

    def _ends(self, draft: Draft) -> None:
        """The two ends are of one kind, and two."""
        local, remote = draft.local, draft.remote
        if len(local) == len(remote) and local != remote:
            return
        at = where(draft.fields.place("local"))
        if local == remote:
            message = f"remote is {addr.text(remote)}, which is local as well (at {at})"
            hint = "a tunnel has two different ends"
        else:
            message = f"remote is {version(remote)}, local is {addr.text(local)} (at {at})"
            hint = "both ends of a tunnel are of one IP version"
        self.problems.add(draft.fields.place("remote"), f"{draft.name}: {message}", hint, "ends")
        del draft.local, draft.remote

    def _ports(self, draft: Draft) -> None:
        draft.encap = draft.fields.get("encapsulation", Encap.IP)
        if draft.encap == Encap.UDP:
            draft.ports = draft.fields.get("ports", (1701, 1701))
            return
        draft.ports = (0, 0)
        for key in ("ports", "checksum"):
            if key in draft.fields.own:
                message = f"{draft.name}: {key} means nothing with encapsulation ip"
                hint = f"remove {key}, or set encapsulation: udp"
                self.problems.add(draft.fields.place(key), message, hint, key)

    def _path_mtu(self, draft: Draft) -> None:
        mtu: int = draft.fields.get("path_mtu", 1500)
        if mtu < 1280 and len(draft.remote) == 16:
            message = f"{draft.name}: a path_mtu of {mtu} is impossible with IPv6"
            self.problems.add(draft.fields.place("path_mtu"), message, "every IPv6 path carries 1280 bytes", "mtu")
            raise Broken
        draft.path_mtu = mtu

    def _route(self, draft: Draft) -> None:
        draft.route, draft.route_device = None, ""
        route: Fields | None = draft.fields.get("route")
        if route is None:
            return
        via: bytes = route.get("via", b"")
        device: str = route.get("device", "")
        if not via and not device:
            if "via" not in route.own:
                message = f"{draft.name}: route names neither via nor device"
                self.problems.add(route.mark, message, "e.g. route: {device: eth0}", "route")
            return
        remote = draft.remote
        if via:
            self._via(draft, route, via, remote, device)
        bits = len(remote) * 8
        spec = RouteSpec(remote, bits, self._share(via), route.get("metric", 0), route.get("table", 254))
        draft.route, draft.route_device = spec, self._share(device)

    def _via(self, draft: Draft, route: Fields, via: bytes, remote: bytes, device: str) -> None:
        if len(via) != len(remote):
            message = f"via is {version(via)}, the peer {version(remote)}"
            hint = "the gateway is of the peer's IP version"
        elif via == remote:
            message = f"via is the peer {addr.text(via)} itself"
            hint = "if the peer is on the link, name the device alone"
        elif link_local(via) and not device:
            message = f"via {addr.text(via)} is link-local"
            hint = "name the device too"
        else:
            return
        self.problems.add(route.place("via"), f"{draft.name}: {message}", hint, "via")
        raise Broken

    def _secret(self, draft: Draft) -> None:
        fields = draft.fields
        secret: str = fields.get("secret_file", "")
        draft.secret_file = "" if draft.keyed else self._share(secret)
        if secret and draft.keyed and "secret_file" in fields.own and "ipsec" in fields.own:
            at = where(fields.place("ipsec"))
            message = f"{draft.name}: secret_file is not used, as ipsec (at {at}) has a key"
            hint = "remove it: cookies come from the key of ipsec"
            self.problems.add(fields.place("secret_file"), message, hint, "secret_file")

    def _paths(self, draft: Draft) -> None:
        """Endpoints against those of all other tunnels."""
        netns, ports, local, remote = draft.netns, draft.ports, draft.local, draft.remote
        if draft.encap == Encap.UDP:
            place = "ports" if "ports" in draft.fields.all else "local"
            self.claims.port(netns, local, ports[0], (draft.fields.place(place), draft.name))
        if draft.ipsec is not None and draft.ipsec.nat_local_port:
            nat: Mark = draft.fields.get("ipsec").place("nat_traversal")
            self.claims.nat_port(netns, local, draft.ipsec.nat_local_port, (nat, draft.name))
        claim = (draft.fields.place("remote"), draft.name)
        self.claims.path(netns, (local, remote), ports, draft.protected, claim)
        if draft.ike is not None:
            self.claims.ike(local, remote, draft.ike, (draft.fields.get("ipsec").place("ike"), draft.name))

    def _sessions(self, draft: Draft) -> None:
        """Routes are claimed in one step, so that the second one of two is the one that is reported."""
        try:
            if draft.route is not None:
                claim = (draft.fields.place("route"), draft.name)
                self.claims.route((draft.netns, ""), draft.route, draft.route_device, claim)
        finally:
            self.sessions.build(draft)
