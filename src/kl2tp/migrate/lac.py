"""Sections [lac NAME] as calls of kl2tp."""

from kl2tp.migrate.finding import Kind
from kl2tp.migrate.ppp import Ppp
from kl2tp.migrate.world import CHAP_SECRETS, PORT, World
from kl2tp.migrate.writing import COMMENT, Tree, short
from kl2tp.migrate.xl2tpd_conf import Given, Section
from kl2tp.model.objects import Secret

WAIT = "30"
"""Seconds between attempts, unless `redial timeout` says otherwise."""


class Calls:
    """Writes calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.findings = world.findings

    def write(self, sections: list[Section]) -> dict[str, Tree]:
        """Calls that we place."""
        default = next((section for section in sections if section.name.lower() == "default"), None)
        if default is not None:
            self._default(default)
        trees: dict[str, Tree] = {}
        for section in sections:
            if section is default:
                continue
            self.world.fates(section)
            lines = section.all("lns") or (default.all("lns") if default is not None else [])
            if servers := self._servers(lines):
                name = self.world.name(section)
                trees[name] = self._call(name, section, servers)
            else:
                self.findings.add(Kind.LOST, section.place, section.title, "no server is known: it is left out")
        return trees

    def _default(self, section: Section) -> None:
        """The manual says that other sections inherit from this one; they do so only in one thing."""
        for line in section.lines:
            if line.option.name == "lns":
                self.findings.add(Kind.TAKEN, line.place, line.what, "for calls that name no server")
            else:
                note = "of this section xl2tpd takes only `lns` for others; kl2tp does it with defaults.lac"
                self.findings.add(Kind.NEVER, line.place, line.what, note)

    def _servers(self, lines: list[Given]) -> list[str]:
        servers = []
        for line in lines:
            host, _, port = (part.strip() for part in line.value.partition(":"))
            address = self.world.hosts.address(host, line.place, line.what)
            if address is not None:
                servers.append(address if port in ("", PORT) else f"{address}:{port}")
        for line in lines[1:]:
            note = "xl2tpd only ever tried the first server; now they are tried in this order"
            self.findings.add(Kind.DIFFERENT, line.place, line.what, note)
        return servers

    def _call(self, name: str, section: Section, servers: list[str]) -> dict[str, Tree]:
        ppp = self.world.ppp(section)
        user = ppp.options.value("user") or ppp.name()
        tree: dict[str, Tree] = {COMMENT: f"{section.title}, {section.place}", "remote": [*servers]}
        tree |= self._here()
        if user:
            tree |= {"user": user} | self._password(name, section, ppp)
        if control := self.world.control(section):
            tree["control"] = control
        if inner := self._ppp(section, ppp, bool(user)):
            tree["ppp"] = inner
        tree["interface"] = short(self._interface(section, ppp), "name")
        return tree | self._redial(section)

    def _here(self) -> dict[str, Tree]:
        """Our own end: xl2tpd has one socket for everything."""
        tree: dict[str, Tree] = {}
        address = self.world.address(self.world.settings.last("listen-addr"))
        if address not in ("", "0.0.0.0"):
            tree["local"] = address
        if port := self.world.port():
            tree["local_port"] = port
        return tree

    def _password(self, name: str, section: Section, ppp: Ppp) -> dict[str, Tree]:
        """A password in a file of options moves to one of its own; otherwise it is that of the user."""
        given = ppp.options.last("password")
        if given is None:
            self.world.add_users(CHAP_SECRETS, section)
            return {}
        path = f"{self.world.secrets}/{name}.password"
        self.world.passwords[path] = Secret(given.values[0].encode())
        self.findings.add(Kind.DIFFERENT, given.place, given.what, f"goes into a file of its own: {path}")
        return {"password_file": path}

    def _ppp(self, section: Section, ppp: Ppp, login: bool) -> dict[str, Tree]:
        tree: dict[str, Tree] = {"auth": [*ppp.answered()]} if login else {}
        local = self.world.address(section.last("local ip")) or ppp.local()
        if local:
            tree["local"] = local
        return tree | ppp.ppp()

    def _interface(self, section: Section, ppp: Ppp) -> dict[str, Tree]:
        tree = ppp.interface()
        unit = ppp.options.value("unit")
        if name := ppp.options.value("ifname"):
            tree["name"] = name
        elif unit.isdecimal():
            tree["name"] = f"ppp{unit}"
        if route := self._default_route(section, ppp):
            tree["routes"] = [route]
        return tree

    def _default_route(self, section: Section, ppp: Ppp) -> str | dict[str, Tree] | None:
        """pppd makes one only if there is none, or replaces it; kl2tp makes it beside others."""
        line = section.last("defaultroute")
        given = ppp.options.last("defaultroute", "replacedefaultroute", "nodefaultroute")
        if line is not None and line.yes:
            place, what = line.place, line.what
        elif given is not None and given.option.name != "nodefaultroute":
            place, what = given.place, given.what
        else:
            return None
        note = "is a route like others now; see to it that the server itself is reached by another one"
        self.findings.add(Kind.DIFFERENT, place, what, note)
        metric = ppp.options.value("defaultroute-metric")
        return {"to": "0.0.0.0/0", "metric": metric} if metric.isdecimal() else "0.0.0.0/0"

    def _redial(self, section: Section) -> dict[str, Tree]:
        if not section.yes("autodial"):
            note = "has no `autodial = yes`: it waited for xl2tpd-control; now it is placed while it is in the file"
            self.findings.add(Kind.DIFFERENT, section.place, section.title, note)
        if not section.yes("redial"):
            return {"persist": "false"}
        return {"retry": self.world.number(section.last("redial timeout"), 1, 3600) or WAIT}
