"""Sections [lns NAME] as profiles of kl2tp."""

from kl2tp.migrate.addresses import text
from kl2tp.migrate.finding import Kind
from kl2tp.migrate.ppp import Ppp
from kl2tp.migrate.world import CHAP_SECRETS, World
from kl2tp.migrate.writing import COMMENT, Tree, short
from kl2tp.migrate.xl2tpd_conf import Section
from kl2tp.model import addr
from kl2tp.model.calls import PAP
from kl2tp.model.ranges import Range, prefixes, without


class Profiles:
    """Writes profiles, and the pools that they need."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.findings = world.findings
        self._ranges: dict[str, list[Range]] = {}
        """What each pool holds, by its name or, of a single range, its text."""

    def pools(self) -> dict[str, Tree]:
        """The pools that have a name."""
        return {name: [*map(text, ranges)] for name, ranges in self._ranges.items() if len(ranges) > 1}

    def write(self, sections: list[Section]) -> dict[str, Tree]:
        """Profiles for peers."""
        peers = self._peers(sections)
        trees: dict[str, Tree] = {}
        for section in sections:
            self.world.fates(section)
            served = peers[section.name.lower()]
            if served is None:
                note = "xl2tpd never chooses it, as no line `lac = RANGE` allows a peer; it is left out"
                self.findings.add(Kind.NEVER, section.place, section.title, note)
            else:
                name = self.world.name(section)
                trees[name] = self._profile(name, section, served)
        return trees

    def _peers(self, sections: list[Section]) -> dict[str, list[str] | None]:
        """Whom each section serves: prefixes that no other has; an empty list: everybody else; None: nobody.

        xl2tpd asks the sections from the last to the first, and [lns default] at the end.
        """
        named = [section for section in sections if section.name.lower() != "default"]
        default = [section for section in sections if section.name.lower() == "default"]
        taken: list[Range] = []
        peers: dict[str, list[str] | None] = {}
        for section in (*reversed(named), *default):
            allowed = self.world.hosts.ranges(section.all("lac", "no lac"))
            own = without(allowed, taken)
            taken += own
            peers[section.name.lower()] = [_prefix(*net) for ends in own for net in prefixes(*ends, 32)] or None
            if section in default and not self.world.settings.yes("access control"):
                peers[section.name.lower()] = []
                self._unheeded(section)
        return peers

    def _unheeded(self, section: Section) -> None:
        for line in section.all("lac", "no lac"):
            note = "without `access control = yes` this section serves everybody; kl2tp does it with lns.NAME.peers"
            self.findings.add(Kind.NEVER, line.place, line.what, note)

    def _profile(self, name: str, section: Section, peers: list[str]) -> dict[str, Tree]:
        ppp = self.world.ppp(section)
        tree: dict[str, Tree] = {COMMENT: f"{section.title}, {section.place}", "listen": self._listen()}
        if peers:
            tree["peers"] = [*peers]
        if control := self.world.control(section):
            tree["control"] = control
        inner = self._login(section, ppp)
        if local := self._local(section, ppp):
            inner["local"] = local
        if pool := self._pool(name, section):
            inner["pool"] = pool
        tree["ppp"] = inner | ppp.ppp()
        tree["interface"] = short(ppp.interface(), "name")
        return tree

    def _listen(self) -> str:
        """xl2tpd listens at one address, or at all IPv4 ones."""
        address = self.world.address(self.world.settings.last("listen-addr")) or "0.0.0.0"
        port = self.world.port()
        return f"{address}:{port}" if port else address

    def _login(self, section: Section, ppp: Ppp) -> dict[str, Tree]:
        """Who may in, and how."""
        tree: dict[str, Tree] = {}
        methods = ppp.demanded()
        name = ppp.name()
        if methods is None:
            tree["auth"] = "none"
        else:
            if methods:
                tree["auth"] = [*methods]
            else:
                note = "names no way to log in: that is left to kl2tp, which takes ppp.auth: [mschapv2, chap]"
                self.findings.add(Kind.DIFFERENT, section.place, section.title, note)
            self.world.add_users(CHAP_SECRETS, section, name)
            if PAP in methods:
                self.world.add_pap_users(section, name)
        return tree | ({"name": name} if name else {})

    def _local(self, section: Section, ppp: Ppp) -> str:
        """Our address inside."""
        if section.last("local ip") is not None:
            return self.world.address(section.last("local ip"))
        line = section.last("local ip range")
        if line is None:
            return ppp.local()
        ranges = self.world.hosts.ranges(section.all("local ip range"))
        note = "each call had another address of ours, now all have the first"
        self.findings.add(Kind.DIFFERENT, line.place, line.what, note)
        return addr.text(ranges[0][0].to_bytes(4)) if ranges else ""

    def _pool(self, name: str, section: Section) -> str:
        """The name of the pool, or the addresses themselves; they are in no other pool."""
        assign = section.last("assign ip")
        if assign is not None and not assign.yes:
            return ""
        lines = section.all("ip range", "no ip range")
        allowed = self.world.hosts.ranges(lines)
        if not allowed:
            note = "has no `ip range`: xl2tpd takes no call; now users with an address of their own can call"
            self.findings.add(Kind.DIFFERENT, section.place, section.title, note)
            return ""
        for known, others in self._ranges.items():
            if others == allowed:
                return known
        free = without(allowed, [ends for others in self._ranges.values() for ends in others])
        if free != allowed:
            note = "what is in the pool of another section is left out: an address is in one pool only"
            self.findings.add(Kind.DIFFERENT, lines[0].place, lines[0].what, note)
        if not free:
            return ""
        called = text(free[0]) if len(free) == 1 else name
        self._ranges[called] = free
        return called


def _prefix(number: int, length: int) -> str:
    net = number.to_bytes(4)
    return addr.text(net) if length == 32 else addr.prefix(net, length)
