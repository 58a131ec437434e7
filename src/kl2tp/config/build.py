"""Fields to specs: what the keys of one tunnel mean together.

Each step judges on its own: a value that is wrong (`Broken`) silences only what depends on it, so that one run finds
all that can be found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kl2tp.config.conflicts import Claim, Claims
from kl2tp.config.fields import Broken, Fields
from kl2tp.config.interfaces import InterfaceBuilder
from kl2tp.config.problem import Bad, Mark, Problems, where
from kl2tp.config.scalar import NAME
from kl2tp.config.schema import TUNNEL
from kl2tp.model import addr, ciphers
from kl2tp.model.spec import (
    NO_COOKIE,
    CookieSpec,
    Encap,
    IpsecSpec,
    L2Spec,
    Mode,
    RouteSpec,
    SessionSpec,
    TunnelSpec,
    Where,
)

T = TypeVar("T")

REQID_BASE = 0x6B6C0000
"""The letters "kl": default reqids are this plus the local tunnel id, so that `ip xfrm` shows whose they are."""
MAX_TUNNELS = 200_000
ESN_WINDOW = 64


@dataclass(slots=True)
class Draft:
    """A tunnel in the making. None: not known, because it was wrong."""

    name: str
    mark: Mark
    fields: Fields
    netns: str | None = None
    ids: tuple[int, int] | None = None
    local: bytes | None = None
    remote: bytes | None = None
    encap: Encap | None = None
    ports: tuple[int, int] | None = None
    path_mtu: int | None = None
    route: RouteSpec | None = None
    route_device: str = ""
    protected: bool | None = None
    ipsec: IpsecSpec | None = None
    secret_file: str | None = None
    sessions: tuple[SessionSpec, ...] | None = None


def known(value: T | None) -> T:
    """The value of a draft. Raises `Broken` if it is not known."""
    if value is None:
        raise Broken
    return value


class Builder:
    """Builds tunnels one after the other, and checks each against all before it."""

    def __init__(self, problems: Problems, defaults: Fields | None) -> None:
        self.problems = problems
        self.claims = Claims(problems)
        self.defaults = defaults
        self.default_ipsec = _part(defaults, "ipsec")
        self.default_session = _part(defaults, "session")
        self.interfaces = InterfaceBuilder(problems, self.claims, _part(defaults, "interface"))
        self.tunnels: list[TunnelSpec] = []
        self._shared: dict[Any, Any] = {}
        self._where: tuple[Mark | None, Where] = (None, Where("", 0, 0))
        self._steps: tuple[Callable[[Draft], None], ...] = (
            self._ids, self._local, self._remote, self._ends, self._ports, self._path_mtu, self._route,
            self._ipsec, self._secret, self._paths, self._sessions,
        )  # fmt: skip

    def tunnel(self, name: str, mark: Mark, fields: Fields) -> None:
        """Add the tunnel that these fields describe, or report what is wrong with it."""
        fields.inherited = self.defaults
        draft = Draft(name, mark, fields)
        self.claims.name(name, (mark, name))
        for step in self._steps:
            try:
                step(draft)
            except Broken:
                continue
        if not self.problems:
            self.tunnels.append(self._spec(draft))

    def share(self, value: T) -> T:
        """An equal value that is there already, so that each is kept once."""
        shared: T = self._shared.setdefault(value, value)
        return shared

    def require(self, draft: Draft, key: str) -> Any:
        """The value of a key that must be there. Raises `Broken`."""
        value = draft.fields.get(key)
        if value is None:
            message = f"{draft.name}: {key} is missing"
            self.problems.add(draft.mark, message, f"e.g. {key}: {TUNNEL.keys[key].example}", key)
            raise Broken
        return value

    def _spec(self, draft: Draft) -> TunnelSpec:
        ids, ports = known(draft.ids), known(draft.ports)
        return TunnelSpec(
            draft.name,
            known(draft.local),
            known(draft.remote),
            ids[0],
            ids[1],
            known(draft.encap),
            ports[0],
            ports[1],
            draft.fields.get("checksum", True) if draft.encap == Encap.UDP else True,
            known(draft.netns),
            known(draft.path_mtu),
            draft.route,
            draft.route_device,
            draft.ipsec,
            known(draft.secret_file),
            known(draft.sessions),
            self._place(draft.mark),
        )

    def _place(self, mark: Mark) -> Where:
        """The tunnels of a set share their place."""
        if self._where[0] is not mark:
            self._where = (mark, where(mark))
        return self._where[1]

    # The tunnel itself

    def _ids(self, draft: Draft) -> None:
        draft.netns = self.share(draft.fields.get("netns", ""))
        draft.ids = self.require(draft, "ids")
        assert draft.ids is not None
        self.claims.tunnel(draft.netns, draft.ids[0], (draft.fields.place("ids"), draft.name))

    def _local(self, draft: Draft) -> None:
        draft.local = self.share(self.require(draft, "local"))

    def _remote(self, draft: Draft) -> None:
        draft.remote = self.share(self.require(draft, "remote"))

    def _ends(self, draft: Draft) -> None:
        local, remote = known(draft.local), known(draft.remote)
        if len(local) == len(remote) and local != remote:
            return
        mark = draft.fields.place("remote")
        at = where(draft.fields.place("local"))
        if local == remote:
            message = f"{draft.name}: remote is {addr.text(remote)}, which is local as well (at {at})"
            self.problems.add(mark, message, "a tunnel has two different ends", "ends")
        else:
            message = f"{draft.name}: remote is {_version(remote)}, local is {_version(local)}: {addr.text(local)} (at {at})"
            self.problems.add(mark, message, "both ends of a tunnel are of one IP version", "ends")
        draft.local = draft.remote = None

    def _ports(self, draft: Draft) -> None:
        draft.encap = draft.fields.get("encapsulation", Encap.IP)
        if draft.encap == Encap.UDP:
            draft.ports = draft.fields.get("ports", (1701, 1701))
            return
        draft.ports = (0, 0)
        for key in ("ports", "checksum"):
            if key in draft.fields.given:
                message = f"{draft.name}: {key} means nothing with encapsulation ip"
                self.problems.add(draft.fields.place(key), message, f"remove {key}, or set encapsulation: udp", key)

    def _path_mtu(self, draft: Draft) -> None:
        draft.path_mtu = draft.fields.get("path_mtu", 1500)
        if known(draft.path_mtu) < 1280 and len(known(draft.remote)) == 16:
            message = f"{draft.name}: a path_mtu of {draft.path_mtu} is impossible with IPv6"
            self.problems.add(draft.fields.place("path_mtu"), message, "every IPv6 path carries 1280 bytes", "path_mtu")

    def _route(self, draft: Draft) -> None:
        route: Fields | None = draft.fields.get("route")
        if route is None:
            return
        via: bytes = route.get("via", b"")
        device: str = route.get("device", "")
        remote = known(draft.remote)
        if not via and not device:
            if "via" not in route.given:
                self.problems.add(route.mark, f"{draft.name}: route names neither via nor device", "e.g. route: {device: eth0}")
            return
        if via and not self._via_fits(draft, route, via, remote, device):
            return
        spec = RouteSpec(remote, len(remote) * 8, self.share(via), route.get("metric", 0), route.get("table", 254))
        draft.route, draft.route_device = spec, self.share(device)
        self.claims.route((known(draft.netns), ""), spec, device, (route.mark, draft.name))

    def _via_fits(self, draft: Draft, route: Fields, via: bytes, remote: bytes, device: str) -> bool:
        if len(via) != len(remote):
            message, hint = f"via is {_version(via)}, the peer {_version(remote)}", "the gateway is of the peer's IP version"
        elif via == remote:
            message, hint = f"via is the peer {addr.text(via)} itself", "if the peer is on the link, name the device alone"
        elif via[:1] == b"\xfe" and len(via) == 16 and via[1] & 0xC0 == 0x80 and not device:
            message, hint = f"via {addr.text(via)} is link-local", "name the device too"
        else:
            return True
        self.problems.add(route.place("via"), f"{draft.name}: {message}", hint, "via")
        return False

    # Protection

    def _ipsec(self, draft: Draft) -> None:
        ipsec: Fields | None = draft.fields.get("ipsec")
        if ipsec is None or "off" in ipsec.given:
            draft.protected = False
            return
        draft.protected = True
        if ipsec is not self.default_ipsec:
            ipsec.inherited = self.default_ipsec
        key_file = self._key_file(draft, ipsec)
        esn, window = self._replay(draft, ipsec)
        nat: tuple[int, int] = ipsec.get("nat_traversal", (0, 0))
        device, packet = self._offload(draft, ipsec, nat)
        if nat[0]:
            place = (ipsec.place("nat_traversal"), draft.name)
            self.claims.nat_port(known(draft.netns), known(draft.local), nat[0], place)
        draft.ipsec = IpsecSpec(
            ipsec.get("proposal", ciphers.DEFAULT),
            key_file,
            ipsec.get("mode", Mode.TRANSPORT),
            self._reqid(draft, ipsec),
            esn,
            window,
            nat[0],
            nat[1],
            ipsec.get("mark"),
            self.share(device),
            packet,
            ipsec.get("side", ""),
            ipsec.get("overlap", 10),
        )

    def _key_file(self, draft: Draft, ipsec: Fields) -> str:
        """Where the key is: one of three keys says it, and a tunnel's own wins over those in `defaults`."""
        sources = ("key_file", "key_dir", "credential")
        for level in (ipsec, ipsec.inherited):
            if level is None:
                continue
            if level.broken is not None and not level.broken.isdisjoint(sources):
                raise Broken
            named = [key for key in sources if key in level.given]
            if len(named) > 1:
                message = f"{draft.name}: {' and '.join(named)} both say where the key is"
                self.problems.add(level.place(named[1]), message, "keep one of them", "key")
                raise Broken
            if named:
                return _key_path(named[0], level.get(named[0]), draft.name)
        message = f"{draft.name}: ipsec has no key"
        self.problems.add(ipsec.mark, message, "name a key_file, key_dir or credential", "key")
        raise Broken

    def _replay(self, draft: Draft, ipsec: Fields) -> tuple[bool, int]:
        esn: bool = ipsec.get("esn", False)
        window: int = ipsec.get("replay_window", ESN_WINDOW if esn else 0)
        if esn and not window:
            message = f"{draft.name}: esn needs a replay window"
            self.problems.add(ipsec.place("replay_window"), message, f"replay_window: {ESN_WINDOW}, or leave it out", "esn")
        return esn, window

    def _offload(self, draft: Draft, ipsec: Fields, nat: tuple[int, int]) -> tuple[str, bool]:
        offload: Fields | None = ipsec.get("offload")
        if offload is None or "off" in offload.given:
            return "", False
        device: str | None = offload.get("device")
        if device is None:
            self.problems.add(offload.mark, f"{draft.name}: offload names no device", "e.g. offload: {device: eth0}", "offload")
            raise Broken
        if nat[0]:
            message = f"{draft.name}: offload is impossible together with nat_traversal (at {where(ipsec.place('nat_traversal'))})"
            self.problems.add(offload.mark, message, "the kernel offloads plain ESP only: switch one of them off", "offload")
        return device, offload.get("type", False)

    def _reqid(self, draft: Draft, ipsec: Fields) -> int:
        netns, ids = known(draft.netns), known(draft.ids)
        reqid: int | None = ipsec.get("reqid")
        place = ipsec.place("reqid") if reqid is not None else draft.fields.place("ids")
        if reqid is None:
            reqid = (REQID_BASE + ids[0]) & 0xFFFFFFFF
        if not reqid:
            self.problems.add(place, f"{draft.name}: the reqid that follows from the tunnel id is 0", "give a reqid", "reqid")
            raise Broken
        self.claims.reqid(netns, reqid, (place, draft.name))
        return reqid

    def _secret(self, draft: Draft) -> None:
        secret: str = draft.fields.get("secret_file", "")
        draft.secret_file = "" if known(draft.protected) else self.share(secret)
        if secret and draft.protected and "secret_file" in draft.fields.given and "ipsec" in draft.fields.given:
            message = f"{draft.name}: secret_file is not used, as ipsec (at {where(draft.fields.place('ipsec'))}) has a key"
            self.problems.add(draft.fields.place("secret_file"), message, "remove it: cookies come from the key of ipsec")

    def _paths(self, draft: Draft) -> None:
        """Endpoints against those of all other tunnels."""
        netns, ports, local, remote = known(draft.netns), known(draft.ports), known(draft.local), known(draft.remote)
        if draft.encap == Encap.UDP:
            place = "ports" if draft.fields.find("ports") else "local"
            self.claims.port(netns, local, ports[0], (draft.fields.place(place), draft.name))
        claim = (draft.fields.place("remote"), draft.name)
        self.claims.path(netns, (local, remote), ports, known(draft.protected), claim)

    # Sessions

    def _sessions(self, draft: Draft) -> None:
        named: dict[str, tuple[Fields, Mark]] = self.require(draft, "sessions")
        if not named:
            message = f"{draft.name}: a tunnel without sessions carries nothing"
            self.problems.add(draft.fields.place("sessions"), message, f"e.g. sessions: {TUNNEL.keys['sessions'].example}")
        inside: dict[tuple[str, int], Claim] = {}
        sessions = []
        for name, (fields, mark) in named.items():
            fields.inherited = self.default_session
            try:
                sessions.append(self._session(draft, name, mark, fields, inside))
            except Broken:
                continue
        draft.sessions = tuple(sessions)

    def _session(
        self, draft: Draft, name: str, mark: Mark, fields: Fields, inside: dict[tuple[str, int], Claim]
    ) -> SessionSpec:
        if name not in self._shared:
            self._session_name(name, mark)
        cookie = self._attempt(lambda: self._cookie(draft, name, fields))
        sublayer = self._attempt(lambda: self._sublayer(name, fields))
        ids = self._attempt(lambda: self._session_ids(draft, name, mark, fields, inside))
        interface = self._attempt(
            lambda: self.interfaces.build((draft.name, name), (mark, fields), known(draft.netns), draft.route_device)
        )
        l2spec, (send, require), reorder = known(sublayer)
        local, peer = known(ids)
        return SessionSpec(
            self.share(name), local, peer, known(interface), known(cookie), l2spec, send, require, reorder
        )

    def _attempt(self, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except Broken:
            return None

    def _session_name(self, name: str, mark: Mark) -> None:
        try:
            NAME.read(name)
        except Bad as bad:
            self.problems.add(mark, bad.message, bad.hint, "name")

    def _session_ids(
        self, draft: Draft, name: str, mark: Mark, fields: Fields, inside: dict[tuple[str, int], Claim]
    ) -> tuple[int, int]:
        ids: tuple[int, int] | None = fields.get("ids")
        place = mark if ids is None else fields.place("ids")
        if ids is None:
            ids = known(draft.ids)
        label = f"{draft.name}/{name}"
        for side, number in zip(("local", "peer"), ids, strict=True):
            claim = (place, label)
            first = inside.setdefault((side, number), claim)
            if first is not claim:
                what = f"the {side} session id {number} is taken by"
                self.claims.refuse(claim, first, what, "give each session of a tunnel ids of its own", side)
                raise Broken
        self.claims.session(known(draft.netns), known(draft.encap), ids[0], (place, label))
        return ids

    def _sublayer(self, name: str, fields: Fields) -> tuple[L2Spec, tuple[bool, bool], int]:
        l2spec: L2Spec = fields.get("l2_sublayer", L2Spec.DEFAULT)
        sequencing: tuple[bool, bool] = fields.get("sequencing", (False, False))
        reorder: int = fields.get("reorder", 0)
        if any(sequencing) and l2spec == L2Spec.NONE:
            message = f"{name}: sequencing needs the L2-specific sublayer, which is none (at {where(fields.place('l2_sublayer'))})"
            self.problems.add(fields.place("sequencing"), message, "the sublayer carries the numbers: l2_sublayer: default")
        if reorder and not any(sequencing):
            message = f"{name}: reorder needs sequencing: packets without numbers have no order"
            self.problems.add(fields.place("reorder"), message, "sequencing: both, on both ends", "reorder")
        return l2spec, sequencing, reorder

    def _cookie(self, draft: Draft, name: str, fields: Fields) -> CookieSpec:
        cookie: Fields | None = fields.get("cookie")
        if cookie is None:
            return NO_COOKIE
        kind: int | None = cookie.get("kind")
        if kind is not None:
            return self._derived(draft, name, cookie, kind)
        sides = []
        for side in ("local", "peer"):
            value: bytes | None = cookie.get(side)
            if value is None:
                message = f"{name}: cookie has no {side}"
                self.problems.add(cookie.mark, message, "{local: HEX, peer: HEX}; none where there is no cookie", side)
                raise Broken
            sides.append(value)
        return self.share(CookieSpec(max(map(len, sides)), sides[0], sides[1]))

    def _derived(self, draft: Draft, name: str, cookie: Fields, length: int) -> CookieSpec:
        if not length:
            return NO_COOKIE
        if not known(draft.protected) and not known(draft.secret_file):
            message = f"{draft.name}/{name}: there is no key from which cookies could be derived"
            hint = "name a secret_file in the tunnel, or write cookie: {local: HEX, peer: HEX}"
            self.problems.add(cookie.mark, message, hint, "derived")
            raise Broken
        return self.share(CookieSpec(length))


def _part(defaults: Fields | None, key: str) -> Fields | None:
    try:
        part: Fields | None = defaults.get(key) if defaults is not None else None
    except Broken:
        return None
    return part


def _key_path(key: str, value: str, tunnel: str) -> str:
    if key == "key_dir":
        return f"{value}{'' if value.endswith('/') else '/'}{tunnel}.key"
    return f"credential:{value}" if key == "credential" else value


def _version(address: bytes) -> str:
    return "IPv4" if len(address) == 4 else "IPv6"
