"""The options of pppd that stand in files for xl2tpd, and what becomes of each."""

from dataclasses import dataclass

from kl2tp.migrate.finding import Kind


@dataclass(frozen=True, slots=True)
class PppOption:
    """An option."""

    name: str
    words: int = 0
    """Values that follow it."""
    kind: Kind = Kind.TAKEN
    key: str = ""
    """What does the same in kl2tp, or would."""
    note: str = ""
    secret: bool = False
    """Its value is never shown."""
    lns: tuple[Kind, str] | None = None
    """What becomes of it on an LNS, where that is something else: (kind, note)."""
    lac: tuple[Kind, str] | None = None
    """The same for LAC."""

    def fate(self, section: str) -> tuple[Kind, str]:
        """What becomes of it in a section of this kind, and what is to be said about it."""
        special = {"lns": self.lns, "lac": self.lac}.get(section)
        if special is not None:
            return special
        if self.kind is not Kind.TAKEN and self.key:
            return self.kind, f"{self.note}; see {self.key}" if self.note else f"see {self.key}"
        return self.kind, self.note or self.key


_REFUSE = (Kind.NEVER, "says how we would log in at the peer, and never what the peer may use: that is ppp.auth")
_REQUIRE = (Kind.LOST, "the server is not asked to log in; what we answer to is lac.NAME.ppp.auth")
_TOLD = (Kind.SAME, "the server says which name servers there are")
_SERVER = (Kind.SAME, "an LNS does not log in itself")
_MANY = (Kind.SAME, "calls that come in get no route of their own but to the peer")


_LINE = "about serial lines"
_SQUEEZED = "kl2tp compresses neither data nor headers"
_SCRIPTS = "hooks: {up: PROGRAM, down: PROGRAM} have an environment of their own"
_MPPE = "MPPE (RC4) is refused: protect the tunnel by IPsec"
_RADIUS = "there is no RADIUS: users stand in files"
_LOG = "kl2tp daemon --log-level debug"


def _same(note: str, *names: str, words: int = 0) -> list[PppOption]:
    return [PppOption(name, words, Kind.SAME, "", note) for name in names]


def _lost(note: str, *names: str, words: int = 0, key: str = "") -> list[PppOption]:
    return [PppOption(name, words, Kind.LOST, key, note) for name in names]


_TABLE = (
    PppOption("auth", key="ppp.auth", lac=_REQUIRE),
    PppOption("noauth", key="ppp.auth: none", lac=(Kind.SAME, "the server is not asked to log in")),
    PppOption("require-pap", key="ppp.auth: pap", lac=_REQUIRE),
    PppOption("require-chap", key="ppp.auth: chap", lac=_REQUIRE),
    PppOption("require-mschap-v2", key="ppp.auth: mschapv2", lac=_REQUIRE),
    PppOption("require-eap", key="ppp.auth: eap-md5", lac=_REQUIRE),
    PppOption("require-mschap", 0, Kind.LOST, "ppp.auth: mschapv2", "version 1 of MS-CHAP is broken and refused",
              lac=_REQUIRE),
    PppOption("refuse-pap", key="lac.NAME.ppp.auth", lns=_REFUSE),
    PppOption("refuse-chap", key="lac.NAME.ppp.auth", lns=_REFUSE),
    PppOption("refuse-mschap", key="lac.NAME.ppp.auth", lns=_REFUSE),
    PppOption("refuse-mschap-v2", key="lac.NAME.ppp.auth", lns=_REFUSE),
    PppOption("refuse-eap", key="lac.NAME.ppp.auth", lns=_REFUSE),
    PppOption("name", 1, key="lns.NAME.ppp.name, lac.NAME.user"),
    PppOption("user", 1, key="lac.NAME.user", lns=_SERVER),
    PppOption("password", 1, key="lac.NAME.password_file", secret=True, lns=_SERVER),
    PppOption("ms-dns", 1, key="ppp.dns", lac=_TOLD),
    PppOption("ms-wins", 1, key="ppp.nbns", lac=_TOLD),
    PppOption("mtu", 1, key="interface.mtu"),
    PppOption("mru", 1, key="ppp.mru"),
    PppOption("lcp-echo-interval", 1, key="ppp.echo.interval"),
    PppOption("lcp-echo-failure", 1, key="ppp.echo.failures"),
    PppOption("lcp-restart", 1, key="ppp.restart"),
    PppOption("lcp-max-configure", 1, key="ppp.max_configure"),
    PppOption("lcp-max-terminate", 1, key="ppp.max_terminate"),
    PppOption("lcp-max-failure", 1, key="ppp.max_failure"),
    PppOption("chap-timeout", 1, key="ppp.auth_timeout"),
    PppOption("pap-timeout", 1, key="ppp.auth_timeout"),
    PppOption("chap-interval", 1, key="ppp.rechallenge"),
    PppOption("eap-interval", 1, key="ppp.rechallenge"),
    PppOption("defaultroute", key="lac.NAME.interface.routes: [0.0.0.0/0]", lns=_MANY),
    PppOption("replacedefaultroute", key="lac.NAME.interface.routes: [0.0.0.0/0]", lns=_MANY),
    PppOption("defaultroute-metric", 1, key="lac.NAME.interface.routes", lns=_MANY),
    PppOption("+ipv6", key="ppp.ipv6"),
    PppOption("ipv6", 1, key="ppp.ipv6", note="interface identifiers are chosen by kl2tp"),
    PppOption("noip", key="ppp.ipv4: false"),
    PppOption("ifname", 1, key="lac.NAME.interface.name",
              lns=(Kind.LOST, "calls that come in are all called alike: lns.NAME.interface.name")),
    PppOption("unit", 1, key="lac.NAME.interface.name",
              lns=(Kind.LOST, "calls that come in are all called alike: lns.NAME.interface.name")),
    PppOption("ADDRESS:ADDRESS", key="ppp.local"),
    PppOption("file", 1, note="is read too"),
    *_lost(_RADIUS, "radius-config-file", "avpair", "radius-avpair", words=1),
    *_lost(_RADIUS, "map-to-ttyname", "map-to-ifname"),
    PppOption("plugin", 1, Kind.LOST, "", "plugins of pppd are not loaded"),
    *_lost(_MPPE, "require-mppe", "require-mppe-40", "require-mppe-128", "mppe-stateful"),
    PppOption("mppe", 1, Kind.LOST, "", _MPPE),
    PppOption("proxyarp", 0, Kind.LOST, "",
              "if the pool is part of a LAN: sysctl net.ipv4.conf.LAN.proxy_arp=1, or route the pool to this host"),
    PppOption("idle", 1, Kind.LOST, "", "idle calls stay"),
    PppOption("maxconnect", 1, Kind.LOST, "", "calls may last for ever"),
    PppOption("login", 0, Kind.LOST, "", "users stand in files: /etc/passwd can't be used"),
    PppOption("demand", 0, Kind.LOST, "", "calls are placed at once"),
    PppOption("holdoff", 1, Kind.LOST, "lac.NAME.retry.first"),
    PppOption("maxfail", 1, Kind.LOST, "", "kl2tp goes on, with longer and longer waits"),
    PppOption("usepeerdns", 0, Kind.LOST, "hooks", "no resolv.conf is touched: a hook may do it"),
    PppOption("remotename", 1, Kind.LOST, "", "the password is found by the user's name alone"),
    PppOption("allow-ip", 1, Kind.LOST, "", "who may have which address is said by the users' files"),
    PppOption("chapms-strip-domain", 0, Kind.LOST, "", "users are looked up by the whole name"),
    PppOption("papcrypt", 0, Kind.LOST, "", "passwords are compared as they stand in the file"),
    PppOption("privgroup", 1, Kind.LOST),
    *_lost(_SCRIPTS, "ip-up-script", "ip-down-script", "ipv6-up-script", "ipv6-down-script", words=1, key="hooks"),
    *_lost("filters belong in nftables", "pass-filter", "active-filter", words=1),
    *_lost("calls are single links", "multilink", "mp"),
    *_lost("there is no IPX", "ipx"),
    *_lost(_SQUEEZED, "bsdcomp", "deflate", "vj-max-slots", words=1),
    *_lost("EAP with certificates is not supported", "ca", "cert", "key", "crl", "crl-dir", "capath", words=1),
    *_lost("EAP with certificates is not supported", "need-peer-eap"),
    *_same("no session has compression", "noccp", "nobsdcomp", "nodeflate", "nopredictor1", "novj", "novjccomp",
           "nopcomp", "noaccomp", "nomppe", "nomppe-40", "nomppe-128", "nomppe-stateful"),
    *_same(_LINE, "crtscts", "nocrtscts", "cdtrcts", "nocdtrcts", "xonxoff", "modem", "local", "lock", "nolock",
           "default-asyncmap", "notty", "receive-all", "sync", "passive", "silent"),
    *_same(_LINE, "asyncmap", "escape", "connect", "disconnect", "init", "pty", "connect-delay", "speed",
           "stop-bits", words=1),
    *_same("kl2tp is a service", "nodetach", "updetach", "up_sdnotify", "noipdefault", "ktune", "noktune",
           "ipcp-accept-local", "ipcp-accept-remote", "ipv6cp-accept-local", "ipv6cp-accept-remote", "noremoteip",
           "nodefaultroute", "nodefaultroute6", "noreplacedefaultroute", "noproxyarp", "noipv6", "noipx", "nomp",
           "nomultilink", "noendpoint", "persist", "nopersist", "lcp-echo-adaptive", "hide-password",
           "show-password", "nolog", "usehostname", "default-mru"),
    *_same("kl2tp is a service", "child-timeout", "linkname", "endpoint", "logfd", "mrru", "domain", words=1),
    *_same("hooks are told the peer's address", "ipparam", words=1),
    *_same(_LOG, "debug", "dump", "dryrun", "nologfd"),
    *_same(_LOG, "kdebug", "logfile", "record", words=1),
    *_same("one timer and one count for all negotiations: see ppp.restart and ppp.max_configure", "ipcp-restart",
           "ipcp-max-configure", "ipcp-max-terminate", "ipcp-max-failure", "ipv6cp-restart", "ipv6cp-max-configure",
           "ipv6cp-max-terminate", "ipv6cp-max-failure", "chap-restart", "chap-max-challenge", "pap-restart",
           "pap-max-authreq", "eap-restart", "eap-max-sreq", "eap-max-rreq", "eap-timeout", words=1),
)  # fmt: skip
_SPELLINGS = {
    "+pap": "require-pap",
    "+chap": "require-chap",
    "+mschap": "require-mschap",
    "+mschap-v2": "require-mschap-v2",
    "+eap": "require-eap",
    "-pap": "refuse-pap",
    "-chap": "refuse-chap",
    "-mschap": "refuse-mschap",
    "-mschap-v2": "refuse-mschap-v2",
    "-eap": "refuse-eap",
    "-detach": "nodetach",
    "-defaultroute": "nodefaultroute",
    "-proxyarp": "noproxyarp",
    "-ipv6": "noipv6",
    "-vj": "novj",
    "-vjccomp": "novjccomp",
    "-pc": "nopcomp",
    "-ac": "noaccomp",
    "-ccp": "noccp",
    "-bsdcomp": "nobsdcomp",
    "-deflate": "nodeflate",
    "-crtscts": "nocrtscts",
    "-am": "default-asyncmap",
    "-p": "passive",
    "-d": "debug",
    "mppe-40": "require-mppe-40",
    "mppe-128": "require-mppe-128",
}
BY_NAME: dict[str, PppOption] = {option.name: option for option in _TABLE}
OPTIONS: dict[str, PppOption] = {**BY_NAME, **{short: BY_NAME[name] for short, name in _SPELLINGS.items()}}
"""By every name that pppd knows."""
HARMLESS_PLUGINS = ("pppol2tp.so", "passwordfd.so")
"""Plugins whose work is kl2tp's own."""
RADIUS_PLUGINS = ("radius.so", "radattr.so", "radrealms.so")
RADIUS = _RADIUS
