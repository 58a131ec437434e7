"""What all sections of an xl2tpd.conf share: files, users, and the control connection."""

import re
from dataclasses import dataclass, field

from kl2tp.migrate import pppd_options
from kl2tp.migrate.addresses import Hosts, Resolve
from kl2tp.migrate.files import Files
from kl2tp.migrate.finding import Findings, Kind, Place
from kl2tp.migrate.ppp import Ppp
from kl2tp.migrate.pppd_options import Options
from kl2tp.migrate.writing import Tree
from kl2tp.migrate.xl2tpd_conf import Given, Section
from kl2tp.model.objects import Secret

OPTIONS = "/etc/ppp/options"
"""What every pppd reads first."""
AUTH_FILE = "/etc/xl2tpd/l2tp-secrets"
CHAP_SECRETS, PAP_SECRETS = "/etc/ppp/chap-secrets", "/etc/ppp/pap-secrets"
SCRIPTS = ("/etc/ppp/ip-up.d", "/etc/ppp/ip-down.d", "/etc/ppp/ipv6-up.d", "/etc/ppp/ipv6-down.d")
KNOWN_SCRIPTS = ("0000usepeerdns", "0clampmss", "000resolvconf")
"""Of Debian's own packages: nothing that an LNS needs."""
PORT = "1701"
SHOWN = 3
"""Users of other servers that are named one by one."""
_UNFIT = re.compile(r"[^A-Za-z0-9._@-]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(slots=True)
class World:
    """What all sections share, and what they add to it."""

    findings: Findings
    files: Files
    hosts: Hosts
    secrets: str
    """Directory for new files with passwords."""
    settings: Section
    """The section [global]."""
    users: dict[str, None] = field(default_factory=dict)
    """Files of users, in the order in which they are read."""
    passwords: dict[str, Secret] = field(default_factory=dict)
    """New files with a password in each."""
    names: set[tuple[str, str]] = field(default_factory=set)
    first: list[pppd_options.Given] = field(default_factory=list)
    """The options of /etc/ppp/options."""

    def name(self, section: Section) -> str:
        """A name for a section that kl2tp takes, and that no other of its kind has."""
        wish = _UNFIT.sub("-", section.name).strip("-._@")[:48] or section.kind
        name, number = wish, 2
        while (section.kind, name) in self.names:
            name, number = f"{wish}-{number}", number + 1
        self.names.add((section.kind, name))
        return name

    def fates(self, section: Section) -> None:
        """Tell of every line of a section what becomes of it."""
        for line in section.lines:
            kind, note = line.option.fate(section.kind)
            if line.option.boolean and not line.yes and kind in (Kind.LOST, Kind.NEVER):
                kind, note = Kind.SAME, ""
            self.findings.add(kind, line.place, line.what, note)

    def ppp(self, section: Section) -> Ppp:
        """The options of pppd for a section: those of every pppd, then those of the section's own file."""
        path = section.value("pppoptfile")
        own = pppd_options.read(self.files, self.findings, path) if path else []
        ppp = Ppp(section, Options([*self.first, *own]), self.findings, self.hosts)
        ppp.fates()
        return ppp

    def address(self, line: Given | None) -> str:
        """The address that a line names; empty: none, or nobody knows it."""
        return "" if line is None else self.hosts.address(line.value, line.place, line.what) or ""

    def port(self) -> str:
        """The UDP port, if it is not the usual one."""
        line = self.settings.last("port")
        port = self.number(line, 1, 65535) if line is not None else ""
        return "" if port == PORT else port

    def number(self, line: Given | None, low: int, high: int) -> str:
        """The number in a line, as it is or as near as can be; empty: there is none."""
        if line is None:
            return ""
        if not line.value.isdecimal():
            self.findings.add(Kind.WRONG, line.place, line.what, "not a number")
            return ""
        number = min(max(int(line.value), low), high)
        if number != int(line.value):
            self.findings.add(Kind.DIFFERENT, line.place, line.what, f"becomes {number}")
        return str(number)

    # control

    def control(self, section: Section) -> dict[str, Tree]:
        """The control connection."""
        tree: dict[str, Tree] = {}
        name = section.last("hostname")
        if name is not None and _HOST_NAME.fullmatch(name.value):
            tree["host_name"] = name.value
        elif name is not None:
            self.findings.add(Kind.LOST, name.place, name.what, "not a host name; see control.host_name")
        path = self._auth_file()
        challenge = section.last("challenge")
        there = self._has_secrets(path)
        if there or (challenge is not None and challenge.yes):
            tree["secret_file"] = path
            tree["challenge"] = "true" if challenge is not None and challenge.yes else "false"
            self.files.private(path)
        if challenge is not None and challenge.yes and not there:
            note = f"there is no secret in {path}: no tunnel comes up until there is"
            self.findings.add(Kind.DIFFERENT, challenge.place, challenge.what, note)
        if window := self.number(section.last("tunnel rws"), 1, 4096):
            tree["window"] = window
        if tries := self.number(self.settings.last("max retries"), 1, 255):
            tree["retransmit"] = {"tries": tries}
        return tree

    def _auth_file(self) -> str:
        """The file of tunnel secrets: as a whole path, since nobody knows where xl2tpd was started."""
        line = self.settings.last("auth file")
        if line is None or line.value.startswith("/"):
            return AUTH_FILE if line is None else line.value
        self.findings.add(Kind.DIFFERENT, line.place, line.what, f"not a whole path: {AUTH_FILE} is taken")
        return AUTH_FILE

    def _has_secrets(self, path: str) -> bool:
        """Whether there is anything but comments in a file of tunnel secrets."""
        content = self.files.text(path) if self.files.there(path) else None
        lines = (content or "").splitlines()
        return any(len(re.split("[#;]", line)[0].split()) >= 3 for line in lines)

    # users

    def add_users(self, path: str, section: Section, name: str = "") -> None:
        """Have a file of users, and tell what is odd about it. `name`: what server we are; empty: that is not known."""
        self.users.setdefault(path)
        if not self.files.there(path):
            self.findings.add(Kind.DIFFERENT, Place(path), "is not there", "nobody can log in until it is")
            return
        self.files.private(path)
        found = pppd_options.users(path, self.files.text(path) or "")
        strangers = [user for user in found if name and user.server.lower() not in ("*", name.lower())]
        for user in strangers[:SHOWN]:
            note = f"is for the server {user.server}, and {section.title} is called {name}; see ppp.name"
            self.findings.add(Kind.DIFFERENT, user.place, f"the user {user.client}", note)
        if len(strangers) > SHOWN:
            note = f"are for other servers than {name}; see ppp.name"
            self.findings.add(Kind.DIFFERENT, Place(path), f"{len(strangers) - SHOWN} more users", note)

    def add_pap_users(self, section: Section, name: str) -> None:
        """pap-secrets is a file of users like chap-secrets, unless it lets in everybody."""
        if not self.files.there(PAP_SECRETS):
            return
        found = pppd_options.users(PAP_SECRETS, self.files.text(PAP_SECRETS) or "")
        empty = [user for user in found if user.empty]
        for user in empty:
            note = f"means any password: {PAP_SECRETS} is left out until no line is like this"
            self.findings.add(Kind.DIFFERENT, user.place, "an empty secret", note)
        if found and not empty:
            self.add_users(PAP_SECRETS, section, name)

    def scripts(self) -> None:
        """pppd runs scripts, which nobody would miss until it is too late."""
        for directory in SCRIPTS:
            for name in self.files.names(directory):
                if name not in KNOWN_SCRIPTS and not name.startswith("."):
                    note = "pppd ran it, kl2tp does not; see hooks"
                    self.findings.add(Kind.LOST, Place(f"{directory}/{name}"), "a script", note)


def make(findings: Findings, files: Files, resolve: Resolve, secrets: str, sections: list[Section]) -> World:
    """The world of these sections."""
    nothing = Section("global", "", Place(""))
    settings = next((section for section in sections if section.kind == "global"), nothing)
    first = pppd_options.read(files, findings, OPTIONS) if files.there(OPTIONS) else []
    return World(findings, files, Hosts(findings, resolve), secrets.rstrip("/"), settings, first=first)
