"""The options of xl2tpd.conf, and what becomes of each.

They are those of xl2tpd 1.3.18. What is said here of xl2tpd was read in its source or seen in its packets, which is not
always what its manual says.
"""

from dataclasses import dataclass

from kl2tp.migrate.finding import Kind

G, S, C = "global", "lns", "lac"
"""Sections."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option."""

    name: str
    sections: tuple[str, ...]
    kind: Kind
    key: str = ""
    """What does the same in kl2tp, or would."""
    note: str = ""
    boolean: bool = False
    """yes or no; one that is lost or was never done is worth a word only if it says yes."""
    lns: tuple[Kind, str] | None = None
    """What becomes of it in a section of LNS, where that is something else: (kind, note)."""
    lac: tuple[Kind, str] | None = None
    """The same for LAC."""

    def fate(self, section: str) -> tuple[Kind, str]:
        """What becomes of it in a section of this kind, and what is to be said about it."""
        special = {S: self.lns, C: self.lac}.get(section)
        if special is not None:
            return special
        note = self.note
        if self.kind is Kind.NEVER and self.key:
            note = f"{note}; kl2tp does it with {self.key}"
        return self.kind, note or self.key


_REFUSE = (Kind.NEVER, "says how we would log in at the peer, and never what the peer may use: that is ppp.auth")
_REQUIRE = (Kind.LOST, "the server is not asked to log in; what we answer to is lac.NAME.ppp.auth")

_TABLE = (
    Option("listen-addr", (G,), Kind.TAKEN, "lns.NAME.listen, lac.NAME.local"),
    Option("port", (G,), Kind.TAKEN, "lns.NAME.listen, lac.NAME.local_port"),
    Option("auth file", (G,), Kind.TAKEN, "control.secret_file", "the file is used as it is"),
    Option("access control", (G,), Kind.TAKEN, "lns.NAME.peers", boolean=True),
    Option("max retries", (G,), Kind.TAKEN, "control.retransmit.tries"),
    Option("cap backoff", (G,), Kind.NEVER, "control.retransmit: {cap: TIME}",
           "xl2tpd reads it and never looks at it again"),
    Option("ipsec saref", (G,), Kind.NEVER, "",
           "needs a kernel with Openswan's KLIPS; on any other it only moved all data to user space", boolean=True),
    Option("saref refinfo", (G,), Kind.NEVER, "", "part of ipsec saref"),
    Option("force userspace", (G,), Kind.LOST, "", "data always runs in the kernel", boolean=True),
    Option("rand source", (G,), Kind.SAME, "", "randomness is the kernel's"),
    Option("debug avp", (G,), Kind.SAME, "daemon.log_level", "kl2tp daemon --log-level debug", boolean=True),
    Option("debug network", (G,), Kind.SAME, "daemon.log_level", "kl2tp daemon --log-level debug", boolean=True),
    Option("debug packet", (G,), Kind.SAME, "daemon.log_level", "tcpdump -v port 1701 shows packets", boolean=True),
    Option("debug state", (G,), Kind.SAME, "daemon.log_level", "kl2tp daemon --log-level debug", boolean=True),
    Option("debug tunnel", (G,), Kind.SAME, "daemon.log_level", "kl2tp daemon --log-level debug", boolean=True),
    Option("exclusive", (S,), Kind.NEVER, "limits: {tunnels_per_peer: 1}",
           "a peer could have any number of tunnels all the same", boolean=True),
    Option("ip range", (S,), Kind.TAKEN, "ppp.pool"),
    Option("no ip range", (S,), Kind.TAKEN, "ppp.pool"),
    Option("assign ip", (S,), Kind.TAKEN, "ppp.pool", "no: only users with an address of their own get one",
           boolean=True),
    Option("lac", (S,), Kind.TAKEN, "lns.NAME.peers"),
    Option("no lac", (S,), Kind.TAKEN, "lns.NAME.peers"),
    Option("local ip", (S, C), Kind.TAKEN, "ppp.local"),
    Option("local ip range", (S,), Kind.TAKEN, "ppp.local", "the first of them is ours in all calls"),
    Option("remote ip", (C,), Kind.LOST, "", "the peer says which address it has"),
    Option("defaultroute", (C,), Kind.TAKEN, "lac.NAME.interface.routes: [0.0.0.0/0]", boolean=True),
    Option("hidden bit", (S, C), Kind.NEVER, "control: {hide_avps: true}",
           "as it is built, xl2tpd sends a random vector and hides nothing", boolean=True),
    Option("length bit", (S, C), Kind.SAME, "", "where the kernel moves the data, it never had an effect",
           boolean=True),
    Option("flow bit", (S, C), Kind.NEVER, "sequencing: both", "xl2tpd numbers no data packets", boolean=True),
    Option("call rws", (S, C), Kind.NEVER, "", "the final L2TP (RFC 2661) has no such window, and xl2tpd sends none"),
    Option("tunnel rws", (S, C), Kind.TAKEN, "control.window"),
    Option("challenge", (S, C), Kind.TAKEN, "control.challenge", boolean=True),
    Option("hostname", (S, C), Kind.TAKEN, "control.host_name"),
    Option("name", (S, C), Kind.TAKEN, "lns.NAME.ppp.name, lac.NAME.user"),
    Option("require chap", (S, C), Kind.TAKEN, "lns.NAME.ppp.auth", boolean=True, lac=_REQUIRE),
    Option("require pap", (S, C), Kind.TAKEN, "lns.NAME.ppp.auth", boolean=True, lac=_REQUIRE),
    Option("require authentication", (S, C), Kind.TAKEN, "lns.NAME.ppp.auth", boolean=True, lac=_REQUIRE),
    Option("refuse chap", (S, C), Kind.TAKEN, "lac.NAME.ppp.auth", boolean=True, lns=_REFUSE),
    Option("refuse pap", (S, C), Kind.TAKEN, "lac.NAME.ppp.auth", boolean=True, lns=_REFUSE),
    Option("refuse authentication", (S, C), Kind.TAKEN, "lac.NAME.ppp.auth", boolean=True, lns=_REFUSE),
    Option("unix authentication", (S,), Kind.LOST, "", "users stand in files: /etc/passwd can't be used",
           boolean=True),
    Option("ppp debug", (S, C), Kind.SAME, "daemon.log_level", "kl2tp daemon --log-level debug", boolean=True),
    Option("pass peer", (S, C), Kind.SAME, "hooks", "hooks are told the peer's address", boolean=True),
    Option("pppoptfile", (S, C), Kind.TAKEN, "", "its options are in a table of their own"),
    Option("rx bps", (S, C), Kind.NEVER, "", "xl2tpd only tells the peer this speed; it limits nothing"),
    Option("tx bps", (S, C), Kind.NEVER, "", "xl2tpd only tells the peer this speed; it limits nothing"),
    Option("bps", (S, C), Kind.NEVER, "", "xl2tpd only tells the peer this speed; it limits nothing"),
    Option("lns", (C,), Kind.TAKEN, "lac.NAME.remote"),
    Option("autodial", (C,), Kind.TAKEN, "", "every call in the file is placed", boolean=True),
    Option("redial", (C,), Kind.TAKEN, "lac.NAME.persist", boolean=True),
    Option("redial timeout", (C,), Kind.TAKEN, "lac.NAME.retry.first"),
    Option("max redials", (C,), Kind.LOST, "", "kl2tp goes on, with longer and longer waits"),
)  # fmt: skip
_SPELLINGS = {
    "require auth": "require authentication",
    "refuse auth": "refuse authentication",
    "unix auth": "unix authentication",
}
BY_NAME: dict[str, Option] = {option.name: option for option in _TABLE}
OPTIONS: dict[str, Option] = {**BY_NAME, **{short: BY_NAME[name] for short, name in _SPELLINGS.items()}}
"""By every name that xl2tpd knows."""
