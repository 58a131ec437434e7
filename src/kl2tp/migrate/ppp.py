"""Options of pppd to the keys of `ppp` and `interface`."""

from kl2tp.migrate.addresses import Hosts
from kl2tp.migrate.finding import Findings, Kind
from kl2tp.migrate.pppd_options import Options
from kl2tp.migrate.pppd_table import HARMLESS_PLUGINS, RADIUS, RADIUS_PLUGINS
from kl2tp.migrate.writing import Tree
from kl2tp.migrate.xl2tpd_conf import Section
from kl2tp.model.calls import CHAP, EAP_MD5, EAP_MSCHAPV2, MSCHAPV2, PAP

REQUIRED = {
    "require-eap": EAP_MD5,
    "require-mschap-v2": MSCHAPV2,
    "require-mschap": MSCHAPV2,
    "require-chap": CHAP,
    "require-pap": PAP,
}
"""What each demands; MS-CHAP version 1 becomes version 2. The strongest first."""
ANSWERED = {
    EAP_MSCHAPV2: "refuse-eap",
    MSCHAPV2: "refuse-mschap-v2",
    EAP_MD5: "refuse-eap",
    CHAP: "refuse-chap",
    PAP: "refuse-pap",
}
"""Methods that pppd answers to, unless it is told not to."""
COUNTS = {
    "lcp-max-configure": "max_configure",
    "lcp-max-terminate": "max_terminate",
    "lcp-max-failure": "max_failure",
}
LIMITS = {"tries": (1, 255), "seconds": (1, 60), "echo": (0, 3600), "auth": (1, 600), "mtu": (68, 65535),
          "mru": (576, 65535), "again": (1, 86400)}  # fmt: skip
"""Bounds of kl2tp's own."""


class Ppp:
    """The PPP of one section, with its `options`: those of all files, the most important last."""

    def __init__(self, section: Section, options: Options, findings: Findings, hosts: Hosts) -> None:
        self.section = section
        self.options = options
        self.findings = findings
        self.hosts = hosts

    def fates(self) -> None:
        """Tell of every option what becomes of it."""
        for given in self.options.given:
            plugin = given.values[0].rpartition("/")[2] if given.option.name == "plugin" else ""
            kind, note = given.option.fate(self.section.kind)
            if plugin in HARMLESS_PLUGINS:
                kind, note = Kind.SAME, "kl2tp does that itself"
            elif plugin in RADIUS_PLUGINS:
                note = RADIUS
            self.findings.add(kind, given.place, given.what, note)

    # login

    def demanded(self) -> list[str] | None:
        """What an LNS demands, the strongest first; empty: something, but nobody says what; None: nothing."""
        methods = {method for option, method in REQUIRED.items() if self.options.last(option)}
        if self.section.yes("require authentication"):
            methods |= {CHAP} if self.section.yes("require chap") else set()
            methods |= {PAP} if self.section.yes("require pap") else set()
        else:
            self._without_effect()
        if not methods and self._everybody():
            return None
        return [method for method in dict.fromkeys(REQUIRED.values()) if method in methods]

    def _without_effect(self) -> None:
        for name in ("require chap", "require pap"):
            line = self.section.last(name)
            if line is not None and line.yes:
                note = "without `require authentication = yes` xl2tpd never asks pppd for it"
                self.findings.add(Kind.NEVER, line.place, line.what, f"{note}; see ppp.auth")

    def _everybody(self) -> bool:
        """Whether everybody is let in: pppd was told so, last of all, and xl2tpd did not overrule it."""
        said = self.options.last("auth", "noauth")
        if self.section.yes("require authentication") or said is None or said.option.name == "auth":
            return False
        self.findings.add(Kind.DIFFERENT, said.place, said.what, "everybody is let in, as before: ppp.auth is none")
        return True

    def answered(self) -> list[str]:
        """What a LAC answers to."""
        no = self.section.yes
        refused = {option for option in ANSWERED.values() if self.options.last(option)}
        if no("refuse authentication"):
            refused |= {"refuse-pap", "refuse-chap"}
        refused |= {"refuse-pap"} if no("refuse pap") else set()
        refused |= {"refuse-chap"} if no("refuse chap") else set()
        return [method for method, option in ANSWERED.items() if option not in refused]

    def name(self) -> str:
        """What pppd calls itself; empty: the host's name."""
        return self.section.value("name") or self.options.value("name")

    # keys

    def ppp(self) -> dict[str, Tree]:
        """The keys of `ppp` that LNS and LAC have in common."""
        tree: dict[str, Tree] = {}
        for option, key in (("ms-dns", "dns"), ("ms-wins", "nbns")):
            lines = self.options.all(option) if self.section.kind == "lns" else []
            found = [self.hosts.address(given.values[0], given.place, given.what) for given in lines]
            if servers := [server for server in found if server]:
                tree[key] = list(dict.fromkeys((servers[0], servers[-1])))
        self._number(tree, "mru", "mru", "mru")
        if self.options.last("noip"):
            tree["ipv4"] = "false"
        six = self.options.last("+ipv6", "ipv6", "noipv6")
        if six is not None and six.option.name != "noipv6":
            tree["ipv6"] = "true"
        if echo := self._echo():
            tree["echo"] = echo
        self._number(tree, "restart", "lcp-restart", "seconds")
        for option, key in COUNTS.items():
            self._number(tree, key, option, "tries")
        self._number(
            tree, "auth_timeout", "chap-timeout" if self.options.value("chap-timeout") else "pap-timeout", "auth"
        )
        again = "chap-interval" if self.options.value("chap-interval") else "eap-interval"
        if self.options.value(again) != "0":
            self._number(tree, "rechallenge", again, "again")
        return tree

    def _echo(self) -> dict[str, Tree]:
        tree: dict[str, Tree] = {}
        self._number(tree, "interval", "lcp-echo-interval", "echo")
        if self.options.value("lcp-echo-failure") == "0":
            return {"interval": "off"}
        self._number(tree, "failures", "lcp-echo-failure", "tries")
        if tree.get("interval") == "0":
            tree = {"interval": "off"}
        return tree

    def interface(self) -> dict[str, Tree]:
        """The keys of `interface`: devices are called as pppd called them, so that firewalls still know them."""
        tree: dict[str, Tree] = {"name": "ppp{n}"}
        self._number(tree, "mtu", "mtu", "mtu")
        return tree

    def local(self) -> str:
        """Our address, as a file of options says it."""
        given = self.options.last("ADDRESS:ADDRESS")
        return "" if given is None else given.values[0].partition(":")[0]

    def _number(self, tree: dict[str, Tree], key: str, option: str, bounds: str) -> None:
        """A number, as it is or as near as can be."""
        given = self.options.last(option)
        if given is None:
            return
        text = given.values[0]
        if not text.isdecimal():
            self.findings.add(Kind.WRONG, given.place, given.what, "not a number")
            return
        low, high = LIMITS[bounds]
        number = min(max(int(text), low), high)
        if number != int(text):
            self.findings.add(Kind.DIFFERENT, given.place, given.what, f"becomes {number}")
        tree[key] = str(number)
