"""Fields of LNS profiles and LAC calls to their specs, each checked against itself, all others, and all tunnels.

Each part is judged even if another is wrong.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from kl2tp.config.call_parts import Parts
from kl2tp.config.call_scalars import PORT, PoolRange, Socket
from kl2tp.config.call_schema import LAC, LAC_INTERFACE, LNS_INTERFACE
from kl2tp.config.conflicts import Claim, Claims
from kl2tp.config.fields import Broken, Fields
from kl2tp.config.ike import For, IkeBuilder, wanted
from kl2tp.config.ike_places import Places
from kl2tp.config.pools import Domain, PoolBuilder
from kl2tp.config.problem import Bad, Mark, Problems, where
from kl2tp.config.scalar import device, version
from kl2tp.model import addr
from kl2tp.model.calls import CallInterfaceSpec, LacSpec, LnsSpec, PoolSpec, PppSpec, UsersSpec
from kl2tp.model.ike import LEAST_REQID, IkeSpec
from kl2tp.model.spec import RouteSpec

T = TypeVar("T")
GIVEN = ("pool", "pool6", "dns", "nbns")
"""Keys of ppp about what the peer is given."""
RETRY = (1.0, 60.0)
"""Seconds between attempts: the first, the longest."""
ALL4, ALL6 = (addr.ANY4, PORT), (addr.ANY6, PORT)


class ProfileBuilder:
    """Builds profiles and calls one after the other. `users`: None if it is not known who they are."""

    def __init__(self, problems: Problems, claims: Claims, pools: PoolBuilder, users: UsersSpec | None) -> None:
        self.problems = problems
        self.claims = claims
        self.pools = pools
        self.users = users
        self.ike = IkeBuilder(problems)
        self.places = Places(claims)
        self._selectors: dict[object, Claim] = {}
        self._patterns: list[tuple[str, str, Claim]] = []
        self._own: list[tuple[Domain, bytes]] = []

    # both

    def _attempt(self, step: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return step(*arguments)
        except Broken:
            return None

    def _ppp(self, parts: Parts, domain: Domain) -> PppSpec:
        fields = parts.part("ppp")
        names = []
        for key, size in (("pool", 4), ("pool6", 16)):
            value: str | PoolRange = "" if fields is None else fields.get(key, "")
            if fields is not None and value:
                name = value if isinstance(value, str) else self.pools.inline(value, fields.place(key))
                self.pools.use(name, domain, size, (fields.place(key), parts.name))
                names.append(name)
            else:
                names.append("")
        spec = parts.ppp(*names)
        if spec.local_address:
            self._own.append((domain, spec.local_address))
        return spec

    def _devices(self, name: str, parts: Parts, spec: CallInterfaceSpec) -> Domain:
        """Take note of the names of devices. Gives where their addresses are unique."""
        fields = parts.part("interface")
        place = parts.mark if fields is None else fields.place("name")
        home = spec.netns or ""
        for netns in dict.fromkeys(("", home)):
            if "{n}" in spec.name:
                self._patterns.append((netns, spec.name, (place, name)))
            else:
                self.claims.device(netns, spec.name, (place, name))
        if spec.vrf and fields is not None:
            self.claims.master(home, spec.vrf, (fields.place("vrf"), name))
        return home, spec.vrf

    def _port(self, socket: Socket, claim: Claim) -> None:
        """The kernel's own sockets share no port with ours: neither those of tunnels nor those of ESP."""
        address, port = socket
        for table, what in ((self.claims.ports, "a tunnel"), (self.claims.nat_ports, "ESP in UDP")):
            if (first := _taken(table, address, port)) is not None:
                text = addr.text(address) if any(address) else "every address"
                hint = "give the tunnel another port of ours, as in ports: 20001/1701"
                self.claims.refuse(claim, first, f"{text}, port {port}, is taken by {what}:", hint, "port")
                return

    def _needs_users(self, parts: Parts, methods: Iterable[str]) -> None:
        """Who demands a login must know somebody who can."""
        if self.users is None or self.users.files:
            return
        if names := ", ".join(methods):
            message = f"nobody can log in: auth is {names}, and users names no file"
            parts.refuse(parts.part("ppp"), "auth", message, "users: /etc/kl2tp/users.yaml; or auth: none")

    def _protection(self, parts: Parts, whose: For) -> tuple[IkeSpec | None]:
        """What IKE negotiates, if it does. Raises `Broken`."""
        ipsec = parts.part("ipsec")
        ike = None if ipsec is None or "off" in ipsec.own else wanted(ipsec)
        if ipsec is None or ike is None:
            self._needs_ike(parts, ipsec)
            return (None,)
        reqid = self._reqid(parts, ipsec) if whose is For.LAC else 0
        return (self.ike.build(parts.name, whose, ipsec, ike, reqid),)

    def _needs_ike(self, parts: Parts, ipsec: Fields | None) -> None:
        """Whoever writes `ipsec` means it."""
        if ipsec is not None and "off" not in ipsec.own and "ike" not in ipsec.own:
            parts.refuse(
                ipsec, "ike", "ipsec says nothing of ike", "ike: {psk_file: /etc/kl2tp/ike.psk}; or ipsec: off"
            )
            raise Broken

    def _reqid(self, parts: Parts, ipsec: Fields) -> int:
        given: int | None = ipsec.get("reqid")
        if given is not None and given < LEAST_REQID:
            message = f"with ike a reqid of {given} is charon's own, for clients of an LNS"
            parts.refuse(ipsec, "reqid", message, f"choose one from {LEAST_REQID:#x} on, or leave it out")
            raise Broken
        return self.places.reqid(parts.name, given, (ipsec.place("reqid"), parts.name))

    # LNS

    def lns(self, name: str, mark: Mark, fields: Fields) -> LnsSpec | None:
        """An LNS profile, or None if anything about it is wrong."""
        parts = Parts(self.problems, name, mark, fields)
        control, limits = self._attempt(parts.control), self._attempt(parts.limits)
        hooks, sequencing = self._attempt(parts.hooks), self._attempt(parts.sequencing)
        selectors = self._attempt(self._selected, parts)
        interface = self._attempt(self._lns_interface, parts)
        domain = ("", "") if interface is None else self._devices(name, parts, interface)
        ppp = self._attempt(self._lns_ppp, parts, domain)
        ike = self._attempt(self._protection, parts, For.LNS)
        if selectors and ike:
            place = fields.place("ipsec") if "ipsec" in fields.own else mark
            self.places.lns(selectors[0] or (ALL4, ALL6), ike[0], (place, name))
        if fields.broken or not (
            control and limits and hooks and sequencing and selectors and interface and ppp and ike
        ):
            return None
        listen, peers, host_names = selectors
        self._own += [(domain, address) for address, _ in listen if not domain[0] and any(address)]
        return LnsSpec(
            name, listen, peers, host_names, control, ppp, interface, limits, hooks, *sequencing,
            fields.get("sessions_per_user", 0), *ike, where(mark),
        )  # fmt: skip

    def _lns_interface(self, parts: Parts) -> CallInterfaceSpec:
        spec = parts.interface(LNS_INTERFACE)
        if "{n}" not in spec.name:
            message = f"all calls would have an interface called {spec.name!r}"
            hint = f"put the number into the name: {spec.name[:10]}{{n}}"
            parts.refuse(parts.part("interface"), "name", message, hint)
            raise Broken
        return spec

    def _lns_ppp(self, parts: Parts, domain: Domain) -> PppSpec:
        spec = self._ppp(parts, domain)
        if not spec.auth and spec.ipv4 and not spec.pool:
            message = "nobody would get an IPv4 address: without login there are no users with their own, and no pool"
            parts.refuse(parts.part("ppp"), "auth", message, "e.g. pool: 10.9.0.0/20")
        self._needs_users(parts, spec.auth)
        return spec

    def _selected(self, parts: Parts) -> tuple[tuple[Socket, ...], tuple[tuple[bytes, int], ...], tuple[str, ...]]:
        """Where it listens, and for whom. No other profile may answer to the very same. Raises `Broken`."""
        listen, peers, host_names = (_values(parts.fields, key) for key in ("listen", "peers", "host_names"))
        place = parts.fields.place("listen") if listen else parts.mark
        for socket in listen or (ALL4, ALL6):
            self._port(socket, (place, parts.name))
        claim = (parts.mark, parts.name)
        for key in ("listen", "peers", "host_names"):
            if key in parts.fields.own:
                claim = (parts.fields.place(key), parts.name)
        for socket in listen or (ALL4, ALL6):
            for peer in peers or (None,):
                for host in (name.lower() for name in host_names) if host_names else (None,):
                    first = self._selectors.setdefault((socket, peer, host), claim)
                    if first[1] != parts.name:
                        self._ambiguous(claim, first, socket, peer, host)
                        return listen, peers, host_names
        return listen, peers, host_names

    def _ambiguous(self, claim: Claim, first: Claim, socket: Socket, peer: Any, host: str | None) -> None:
        at = f"{addr.text(socket[0])} port {socket[1]}" if any(socket[0]) else f"port {socket[1]} of every address"
        whom = f" for {addr.prefix(*peer)}" if peer is not None else ""
        named = f" and hosts called {host}" if host is not None else ""
        what = f"which profile a peer gets is open: at {at}{whom}{named} there is also"
        hint = "let one of them listen elsewhere, or give it peers or host_names of its own"
        self.claims.refuse(claim, first, what, hint, "selector")

    # LAC

    def lac(self, name: str, mark: Mark, fields: Fields) -> LacSpec | None:
        """A call that we place, or None if anything about it is wrong."""
        parts = Parts(self.problems, name, mark, fields)
        control, retry = self._attempt(parts.control), self._attempt(self._retry, parts)
        hooks, sequencing = self._attempt(parts.hooks), self._attempt(parts.sequencing)
        ends = self._attempt(self._ends, parts)
        interface = self._attempt(self._lac_interface, parts)
        domain = ("", "") if interface is None else self._devices(name, parts, interface)
        routes = None if interface is None else self._attempt(self._routes, parts, domain, interface)
        ppp = self._attempt(self._lac_ppp, parts, domain)
        ike = self._attempt(self._protection, parts, For.LAC)
        if ends and ike:
            self.places.lac(ends[1], ends[0], ike[0], (fields.place("remote"), name))
        if fields.broken or not (control and retry and hooks and sequencing and ends and interface and ppp and ike):
            return None
        if routes is None:
            return None
        remotes, local = ends
        return LacSpec(
            name, remotes, local, fields.get("user", ""), fields.get("password_file", ""), control, ppp, interface,
            hooks, routes, *sequencing, fields.get("outgoing", False), fields.get("called_number", ""),
            fields.get("persist", True), *retry, fields.get("own_tunnel", False), *ike, where(mark),
        )  # fmt: skip

    def _ends(self, parts: Parts) -> tuple[tuple[Socket, ...], Socket]:
        remotes: tuple[Socket, ...] = _values(parts.fields, "remote")
        local: Socket = (parts.fields.get("local", b""), parts.fields.get("local_port", PORT))
        if not remotes:
            parts.refuse(None, "remote", "remote is missing", f"e.g. remote: {LAC.keys['remote'].eg}")
            raise Broken
        for address, _ in remotes if local[0] else ():
            at = where(parts.fields.place("local"))
            if len(address) != len(local[0]):
                message = f"remote {addr.text(address)} is {version(address)}, local is {addr.text(local[0])} (at {at})"
                parts.refuse(parts.fields, "remote", message, "both ends are of one IP version")
            elif address == local[0]:
                message = f"remote is {addr.text(address)}, which is local as well (at {at})"
                parts.refuse(parts.fields, "remote", message, "we can't call ourselves")
        if local[1]:
            key = "local_port" if "local_port" in parts.fields.all else "local"
            self._port(local, (parts.fields.place(key), parts.name))
        return remotes, local

    def _retry(self, parts: Parts) -> tuple[float, float]:
        retry: Fields | None = parts.part("retry")
        if retry is None:
            return RETRY
        first: float = retry.get("first", RETRY[0])
        cap: float = retry.get("cap", max(RETRY[1], first))
        if first > cap:
            message = f"the first wait of {first:g} s is over the longest, {cap:g} s (at {where(retry.place('cap'))})"
            parts.refuse(retry, "first", message, "raise cap too")
        return first, cap

    def _lac_interface(self, parts: Parts) -> CallInterfaceSpec:
        try:
            return parts.interface(LAC_INTERFACE, device(parts.name))
        except Bad:
            return parts.interface(LAC_INTERFACE)

    def _routes(self, parts: Parts, domain: Domain, interface: CallInterfaceSpec) -> tuple[RouteSpec, ...]:
        fields = parts.part("interface")
        given: list[tuple[Fields, Mark]] = [] if fields is None else fields.get("routes", [])
        name = f"{interface.name} of {parts.name}" if "{n}" in interface.name else interface.name
        routes = []
        for route, mark in given:
            to: tuple[bytes, int] | None = route.get("to")
            if to is None:
                self.problems.add(mark, f"{parts.name}: a route without destination", "e.g. to: 10.2.0.0/16", "to")
                raise Broken
            spec = RouteSpec(*to, b"", route.get("metric", 0), route.get("table", 254))
            self.claims.route(domain, spec, name, (mark, parts.name))
            routes.append(spec)
        return tuple(routes)

    def _lac_ppp(self, parts: Parts, domain: Domain) -> PppSpec:
        spec = self._ppp(parts, domain)
        fields, own = parts.part("ppp"), parts.fields
        user: str = own.get("user", "")
        password: str = own.get("password_file", "")
        if password and not user and "password_file" in own.own:
            parts.refuse(own, "password_file", "a password, but no user", "user: NAME")
        if user and not password and self.users is not None and not self.users.files:
            message = f"there is no password for {user!r}: no password_file, and users names no file"
            parts.refuse(own, "user", message, "password_file: /etc/kl2tp/NAME.password")
        if own.get("outgoing", False):
            self._needs_users(parts, spec.auth)
            return spec
        for key in GIVEN if fields is not None else ():
            if fields is not None and key in fields.own:
                message = f"{key} means nothing on a call that we place: the peer says what we get"
                parts.refuse(fields, key, message, f"remove {key}, or set outgoing: true")
        if not user and fields is not None and "auth" in fields.own and spec.auth:
            parts.refuse(fields, "auth", f"auth is {', '.join(spec.auth)}, but there is no user", "user: NAME")
        return spec if user else _without_login(spec)

    # what is known only at the end

    def finish(self) -> tuple[PoolSpec, ...]:
        """Check the names of devices, and give the pools, without what is our own."""
        self.places.finish()
        for netns, text, claim in self._patterns:
            self._collides(netns, text, claim)
        domains = {domain for pool in self.pools.pools.values() for domain in pool.domains}
        for domain in domains:
            self.pools.ours(domain, [address for where_, address in self._own if where_ == domain])
        if domains:
            for key in self.claims.addresses:
                self._claimed(key, domains)
        return self.pools.finish()

    def _claimed(self, key: Any, domains: set[Domain]) -> None:
        """An address of a tunnel's interface: `key` is (domain, address)."""
        if key[0] in domains:
            self.pools.ours(key[0], [key[1]])

    def _collides(self, netns: str, text: str, claim: Claim) -> None:
        """A device that has a name of its own must not lose it to a call."""
        before, _, after = text.partition("{n}")
        for table in (self.claims.devices, self.claims.masters):
            for key, first in table.items():
                place, name = key if isinstance(key, tuple) else ("", "")
                if place == netns and name.startswith(before) and name.endswith(after):
                    number = name[len(before) : len(name) - len(after)]
                    if number.isdecimal() and number.isascii():
                        what = f"interfaces called {text} would sooner or later be {name!r}, which is"
                        self.claims.refuse(claim, first, what, "choose another name, as in office{n}", "pattern")
                        return


def _without_login(spec: PppSpec) -> PppSpec:
    return replace(spec, auth=())


def _values(fields: Fields, key: str) -> tuple[Any, ...]:
    """The values of a list, each once. Raises `Broken`."""
    return tuple(dict.fromkeys(value for value, _ in fields.get(key, ())))


def _taken(table: dict[object, Claim], address: bytes, port: int) -> Claim | None:
    """Who has this port; of every address if `address` is none or unspecified."""
    if any(address):
        return table.get(("", address, port))
    for key, claim in table.items():
        netns, other, number = key if isinstance(key, tuple) else ("", b"", 0)
        if not netns and number == port and len(other) in ({len(address)} if address else {4, 16}):
            return claim
    return None
