"""The one table of the configuration language: it drives the reader, the messages and the printed reference.

A `Section` is a mapping with known keys. A `Key` takes a scalar (`type`), a mapping (`section`), a list of either
(`many`), or a mapping from names to either (`named`).
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kl2tp.config import scalar, template
from kl2tp.config.scalar import Type

WIDTH = 110


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """One key of a section."""

    name: str
    type: Type[Any] | None
    doc: str
    default: str = ""
    """What holds if the key is left out, for people; empty: nothing."""
    example: str = ""
    section: "Section | None" = None
    many: bool = False
    named: bool = False
    required: bool = False
    inherited: bool = False
    """May stand in `defaults`, and is taken from there."""
    alias: str = ""
    """A second name for the same key."""
    fills: tuple[str, ...] = ()
    """What of `kl2tp.model.spec` it sets, as `Class.field`."""

    @property
    def syntax(self) -> str:
        """What may be written, for people."""
        forms = []
        if self.type is not None:
            forms.append(self.type.syntax)
        if self.section is not None:
            if self.section.short is not None:
                assert self.section.short.type is not None
                forms.append(self.section.short.type.syntax)
            forms.append(f"{{{self.section.name}}}")
        text = " | ".join(forms)
        if self.named:
            return f"NAME: {text}"
        return f"[{text}, ...]" if self.many else text


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A mapping with known keys, in the order in which they are documented."""

    name: str
    doc: str
    keys: dict[str, Key]
    """By name and by alias."""
    short: Key | None = None
    """What a scalar in place of the mapping means."""
    defaults: "Section | None" = field(default=None)
    """The section in `defaults` from which this one inherits."""

    def __iter__(self) -> Iterator[Key]:
        return iter(dict.fromkeys(self.keys.values()))


def _section(name: str, doc: str, *keys: Key, short: Key | None = None) -> Section:
    table = {key.name: key for key in keys} | {key.alias: key for key in keys if key.alias}
    return Section(name, doc, table, short)


def _inheritable(name: str, doc: str, section: Section, *more: Key) -> Section:
    """The part of a section that `defaults` may hold."""
    return _section(name, doc, *(key for key in section if key.inherited), *more, short=section.short)


DAEMON = _section(
    "daemon",
    "Settings of `kl2tp daemon` itself. In the main file only.",
    Key(
        "resync_interval", scalar.RESYNC,
        "Time between full comparisons with the kernel. Changes are repaired at once by events; this finds what events missed.",
        "5m", "1h", fills=("DaemonSpec.resync_interval",),
    ),
    Key("log_level", scalar.LOG_LEVEL, "How much is logged.", "info", "debug", fills=("DaemonSpec.log_level",)),
)

PEER_ROUTE = _section(
    "route",
    "A host route to the peer, made before the tunnel. Short form: the gateway alone.",
    Key("via", scalar.GATEWAY, "Gateway.", "", "198.51.100.254", fills=("RouteSpec.via",)),
    Key("device", scalar.DEVICE, "Outgoing device.", "", "eth0", fills=("TunnelSpec.route_device",)),
    Key("metric", scalar.METRIC, "The lower one wins.", "0", "100", fills=("RouteSpec.metric",)),
    Key("table", scalar.TABLE, "Routing table.", "main", "100", fills=("RouteSpec.table",)),
    short=Key("via", scalar.either({"none": b""}, scalar.GATEWAY), "The gateway; none: no route."),
)

OFFLOAD = _section(
    "offload",
    "ESP in the network card. Short form: off.",
    Key("device", scalar.DEVICE, "The card.", "", "eth0", required=True, fills=("IpsecSpec.offload_device",)),
    Key(
        "type", scalar.OFFLOAD, "crypto: the card encrypts; packet: it does all of ESP and the policies.",
        "crypto", "packet", fills=("IpsecSpec.offload_packet",),
    ),
    short=Key("off", scalar.OFF, "No offload."),
)

IPSEC = _section(
    "ipsec",
    "Protection by ESP with static keys. Short form: off. With it no packet of the tunnel ever leaves or enters in clear.",
    Key(
        "proposal", scalar.PROPOSAL, "The cipher.", "aes256gcm16", "chacha20poly1305", inherited=True,
        fills=("IpsecSpec.cipher",),
    ),
    Key(
        "key_file", scalar.FILE, "The key file, the same on both ends; `kl2tp genkey` makes one.",
        "", "/etc/kl2tp/keys/madrid.key", inherited=True, fills=("IpsecSpec.key_file",),
    ),
    Key(
        "key_dir", scalar.DIRECTORY, "Directory of key files: each tunnel takes NAME.key from it.",
        "", "/etc/kl2tp/keys", inherited=True, fills=("IpsecSpec.key_file",),
    ),
    Key(
        "credential", scalar.CREDENTIAL, "The systemd credential that holds the key file (LoadCredential=).",
        "", "madrid.key", inherited=True, fills=("IpsecSpec.key_file",),
    ),
    Key("mode", scalar.MODE, "transport needs 20 (IPv6: 40) bytes less than tunnel.", "transport", "tunnel",
        inherited=True, fills=("IpsecSpec.mode",)),
    Key("reqid", scalar.REQID, "The number that ties SAs to policies.", "0x6b6c0000 + the local tunnel id", "4001",
        fills=("IpsecSpec.reqid",)),
    Key("esn", scalar.BOOLEAN, "Extended sequence numbers (RFC 4303 2.2.1). Both ends must agree.", "false", "true",
        inherited=True, fills=("IpsecSpec.esn",)),
    Key(
        "replay_window", scalar.WINDOW,
        "Packets. 0 checks nothing: right for static keys, as a peer that restarts counts from 1 again.",
        "0; 64 with esn", "128", inherited=True, fills=("IpsecSpec.replay_window",),
    ),
    Key(
        "nat_traversal", scalar.NAT, "ESP in UDP (RFC 3948): our port and the peer's. Set side too: NAT hides the addresses.",
        "off", "4500/4500", inherited=True, fills=("IpsecSpec.nat_local_port", "IpsecSpec.nat_remote_port"),
    ),
    Key("mark", scalar.MARK, "Only packets with this mark are protected by these policies.", "none", "0x10/0xff",
        inherited=True, fills=("IpsecSpec.mark",)),
    Key("offload", None, "ESP in the network card.", "off", "{device: eth0, type: crypto}", section=OFFLOAD,
        inherited=True),
    Key(
        "side", scalar.SIDE,
        "Which half of the key is ours to send with: left on one end, right on the other. auto compares the two addresses.",
        "auto", "left", inherited=True, fills=("IpsecSpec.side",),
    ),
    Key(
        "overlap", scalar.OVERLAP, "When the key file changes: seconds for which old and new keys are both accepted.",
        "10", "30", inherited=True, fills=("IpsecSpec.overlap",),
    ),
    short=Key("off", scalar.OFF, "No protection."),
)

ROUTE = _section(
    "routes",
    "A route into the interface. Short form: the prefix alone.",
    Key("to", scalar.DESTINATION, "Where to.", "", "10.2.0.0/16", required=True,
        fills=("RouteSpec.destination", "RouteSpec.prefix_length")),
    Key("via", scalar.GATEWAY, "Gateway behind the interface.", "", "10.64.0.2", fills=("RouteSpec.via",)),
    Key("metric", scalar.METRIC, "The lower one wins.", "0", "100", fills=("RouteSpec.metric",)),
    Key("table", scalar.TABLE, "Routing table.", "main, or that of the VRF", "100", fills=("RouteSpec.table",)),
    short=Key("to", scalar.DESTINATION, "Where to."),
)

INTERFACE = _section(
    "interface",
    "The network device of a session. Short form: its name alone.",
    Key("name", scalar.DEVICE, "At most 15 characters.", "TUNNEL-SESSION, if that is short enough", "mad0",
        fills=("InterfaceSpec.name",)),
    Key("mtu", scalar.MTU, "Bytes. auto: the path's MTU less every header of this tunnel (`kl2tp mtu` shows them).",
        "auto", "1400", inherited=True, fills=("InterfaceSpec.mtu",)),
    Key("addresses", scalar.INTERFACE_ADDRESS, "One address or a list of them.", "", "[10.64.0.1/30, 2001:db8:64::1/64]",
        many=True, alias="address", fills=("InterfaceSpec.addresses",)),
    Key("routes", None, "Routes into the interface.", "", "[10.2.0.0/16]", section=ROUTE, many=True,
        fills=("InterfaceSpec.routes",)),
    Key("bridge", scalar.MASTER, "The bridge that the device joins; it must exist.", "none", "br-lan", inherited=True,
        fills=("InterfaceSpec.bridge",)),
    Key("vrf", scalar.MASTER, "The VRF that the device joins; it must exist.", "none", "vrf-blue", inherited=True,
        fills=("InterfaceSpec.vrf",)),
    Key("netns", scalar.NETNS, "The network namespace that the device moves to; `default` is the daemon's.",
        "the tunnel's", "customer1", inherited=True, fills=("InterfaceSpec.netns",)),
    Key("mss", scalar.MSS, "Limit for the TCP segments through the device, bytes. auto: from the MTU.", "auto", "1300",
        inherited=True, fills=("InterfaceSpec.mss",)),
    Key("mac", scalar.MAC, "Link-layer address.", "chosen by the kernel", "02:00:00:00:00:01",
        fills=("InterfaceSpec.mac",)),
    Key("up", scalar.BOOLEAN, "Whether the device is switched on.", "true", "false", inherited=True,
        fills=("InterfaceSpec.up",)),
    short=Key("name", scalar.DEVICE, "The name."),
)

COOKIE = _section(
    "cookie",
    "Cookies (RFC 3931 4.1). Short form: none, or auto (8 bytes), auto4, auto8: derived from the key file on both ends.",
    Key("local", scalar.COOKIE, "What we expect in received packets: 8 or 16 hexadecimal digits.", "", "0badcafe",
        required=True, fills=("CookieSpec.local",)),
    Key("peer", scalar.COOKIE, "What we put into sent packets.", "", "0123456789abcdef", required=True,
        fills=("CookieSpec.peer",)),
    short=Key("kind", scalar.COOKIE_KIND, "Derived or none.", fills=("CookieSpec.length",)),
)

SESSION = _section(
    "session",
    "One Ethernet pseudowire in a tunnel.",
    Key("ids", scalar.IDS, "Our session id and the peer's. With encapsulation ip ours is unique on the whole host.",
        "the tunnel's ids", "1/1", fills=("SessionSpec.id", "SessionSpec.peer_id")),
    Key("cookie", None, "Cookies, which keep forged packets out.", "none", "auto", section=COOKIE, inherited=True,
        fills=("SessionSpec.cookie",)),
    Key("sequencing", scalar.SEQUENCING, "send: number our packets; require: drop the peer's that have no number.",
        "none", "both", inherited=True, fills=("SessionSpec.send_sequence", "SessionSpec.require_sequence")),
    Key("reorder", scalar.REORDER, "How long a packet that came too early waits for those before it, milliseconds.",
        "0", "50ms", inherited=True, fills=("SessionSpec.reorder_ms",)),
    Key("l2_sublayer", scalar.L2_SUBLAYER, "The L2-specific sublayer (RFC 3931 3.2.2): 4 bytes. Both ends must agree.",
        "default", "none", inherited=True, fills=("SessionSpec.l2spec",)),
    Key("interface", None, "The network device.", "", "{name: mad0, bridge: br-lan}", section=INTERFACE,
        fills=("SessionSpec.interface",)),
)

TUNNEL = _section(
    "tunnel",
    "One L2TPv3 tunnel to one peer.",
    Key("local", scalar.ENDPOINT, "Our address.", "", "198.51.100.1", required=True, inherited=True,
        fills=("TunnelSpec.local",)),
    Key("remote", scalar.ENDPOINT, "The peer's address.", "", "203.0.113.7", required=True, fills=("TunnelSpec.remote",)),
    Key("encapsulation", scalar.ENCAPSULATION, "ip: protocol 115; udp: through NAT and firewalls, 12 bytes more.",
        "ip", "udp", inherited=True, fills=("TunnelSpec.encap",)),
    Key("ids", scalar.IDS, "Our tunnel id and the peer's: 1..4294967295; one number stands for both.", "", "1001/2001",
        required=True, fills=("TunnelSpec.id", "TunnelSpec.peer_id")),
    Key("ports", scalar.PORTS, "UDP only: our port and the peer's. No two tunnels share a local address and port.",
        "1701/1701", "20001/1701", inherited=True, fills=("TunnelSpec.local_port", "TunnelSpec.remote_port")),
    Key("checksum", scalar.BOOLEAN, "UDP only: whether checksums are used.", "true", "false", inherited=True,
        fills=("TunnelSpec.checksum",)),
    Key("netns", scalar.NETNS, "The network namespace of the tunnel's own packets; `default` is the daemon's.",
        "default", "uplink", inherited=True, fills=("TunnelSpec.netns",)),
    Key("path_mtu", scalar.PATH_MTU, "MTU of the path to the peer, bytes: interface MTUs follow from it.", "1500", "1492",
        inherited=True, fills=("TunnelSpec.path_mtu",)),
    Key("route", None, "A host route to the peer.", "", "{via: 198.51.100.254, device: eth0}", section=PEER_ROUTE,
        inherited=True, fills=("TunnelSpec.route",)),
    Key("secret_file", scalar.OPTIONAL_FILE, "Key file from which cookies are derived when there is no ipsec.", "none",
        "/etc/kl2tp/keys/madrid.key", inherited=True, fills=("TunnelSpec.secret_file",)),
    Key("ipsec", None, "Protection by ESP.", "off", "{key_file: /etc/kl2tp/keys/madrid.key}", section=IPSEC,
        inherited=True, fills=("TunnelSpec.ipsec",)),
    Key("sessions", None, "The pseudowires, by name.", "", "{lan: {ids: 1/1, interface: mad0}}", section=SESSION,
        named=True, required=True, fills=("TunnelSpec.sessions", "SessionSpec.name")),
)

SET = _section(
    "set",
    'Many tunnels from one template. Every value may hold {n}, {n:04}, {n // 250 + 1}: quote those that begin with "{".',
    Key("range", Type("FIRST-LAST[,...]", template.numbers), "The values of n.", "", "1-500,600", required=True),
    *TUNNEL,
)

DEFAULTS_IPSEC = _inheritable("defaults.ipsec", "What every tunnel's ipsec inherits, key by key.", IPSEC)
DEFAULTS_INTERFACE = _inheritable("defaults.interface", "What every interface inherits, key by key.", INTERFACE)
DEFAULTS_SESSION = _inheritable("defaults.session", "What every session inherits, key by key.", SESSION)


def _defaults() -> Section:
    keys = [
        Key("ipsec", None, "For every tunnel's ipsec: it switches protection on for all.", section=DEFAULTS_IPSEC)
        if key.name == "ipsec"
        else key
        for key in TUNNEL
        if key.inherited
    ]
    session = Key("session", None, "For every session.", section=DEFAULTS_SESSION)
    interface = Key("interface", None, "For every session's interface.", section=DEFAULTS_INTERFACE)
    doc = "What tunnels, sessions and interfaces inherit, key by key, unless they say otherwise. In the main file only."
    return _section("defaults", doc, *keys, session, interface)


DEFAULTS = _defaults()

TOP = _section(
    "file",
    "kl2tp.yaml. The files conf.d/*.yaml beside it add tunnels and sets.",
    Key("defaults", None, "What all tunnels inherit.", section=DEFAULTS),
    Key("tunnels", None, "The tunnels, by name.", section=TUNNEL, named=True, fills=("Desired.tunnels", "TunnelSpec.name")),
    Key("sets", None, "Many tunnels from one template, by name: branch-{n:04}.", section=SET, named=True,
        fills=("Desired.tunnels", "TunnelSpec.name")),
    Key("daemon", None, "Settings of the daemon.", section=DAEMON, fills=("Desired.daemon",)),
)

_LATER = "it is not supported yet"
_INLINE = "a secret never stands in the configuration"
_FILE_HINT = "put it into a file that only root can read, and name that file"
ADVICE: dict[str, tuple[str, str]] = {
    "lns": (_LATER, "only tunnels with static ids are: see tunnels and sets"),
    "lac": (_LATER, "only tunnels with static ids are: see tunnels and sets"),
    "ike": (_LATER, "only static keys are: name a key_file, key_dir or credential"),
    **dict.fromkeys(("key", "keys", "secret", "psk", "password", "passphrase", "shared_secret"), (_INLINE, _FILE_HINT)),
}
"""Keys that people expect, with what to say about them."""

SYNONYMS: dict[str, str] = {
    "encap": "encapsulation", "peer": "remote", "peer_address": "remote", "src": "local", "dst": "remote",
    "id": "ids", "tunnel_id": "ids", "session_id": "ids", "peer_id": "ids", "peer_tunnel_id": "ids", "peer_session_id": "ids",
    "port": "ports", "udp_port": "ports", "local_port": "ports", "remote_port": "ports", "udp_csum": "checksum",
    "cipher": "proposal", "algorithm": "proposal", "encryption": "proposal", "nat": "nat_traversal", "natt": "nat_traversal",
    "namespace": "netns", "ifname": "name", "ip": "addresses", "addr": "addresses", "master": "bridge", "route": "routes",
    "seq": "sequencing", "sequence": "sequencing", "cookies": "cookie", "l2spec": "l2_sublayer", "pmtu": "path_mtu",
    "session": "sessions", "resync": "resync_interval", "loglevel": "log_level", "hwaddr": "mac", "lladdr": "mac",
}  # fmt: skip
"""What other tools call a key."""


def advice(section: Section, word: str) -> tuple[str, str]:
    """What to say about an unknown key: (message, hint)."""
    if word.lower() in ADVICE:
        return ADVICE[word.lower()]
    message = f"{section.name} has no such key"
    other = SYNONYMS.get(word.lower(), "")
    if other in section.keys:
        return message, f"did you mean {other}?"
    known = [key.name for key in section]
    near = scalar.similar(word.replace("-", "_"), section.keys)
    return message, near or _elsewhere(section, word) or f"known keys: {', '.join(known)}"


def _elsewhere(section: Section, word: str) -> str:
    homes = [other.name for other in sections() if word in other.keys and other is not section]
    return f"{word} belongs in {' or '.join(homes[:2])}" if homes else ""


def sections() -> tuple[Section, ...]:
    """All sections, in the order of the reference."""
    return (
        TOP, TUNNEL, SESSION, COOKIE, INTERFACE, ROUTE, IPSEC, OFFLOAD, PEER_ROUTE, SET,
        DEFAULTS, DEFAULTS_SESSION, DEFAULTS_INTERFACE, DEFAULTS_IPSEC, DAEMON,
    )  # fmt: skip


def reference(width: int = WIDTH) -> str:
    """Every key with its form, default, meaning and an example: what `kl2tp schema` prints."""
    return "\n\n".join(_section_text(section, width) for section in sections()) + "\n"


def _section_text(section: Section, width: int) -> str:
    lines = [section.name.upper(), *textwrap.wrap(section.doc, width - 2, initial_indent="  ", subsequent_indent="  ")]
    if section.name.startswith("defaults."):
        lines.append(f"  keys: {', '.join(key.name for key in section)}")
        return "\n".join(lines)
    for key in section:
        if section is SET and key.name in TUNNEL.keys:
            continue
        lines += ["", *_key_text(key, width)]
    if section is SET:
        lines += ["", "  and every key of TUNNEL"]
    return "\n".join(lines)


def _key_text(key: Key, width: int) -> list[str]:
    name = f"{key.name} (or {key.alias})" if key.alias else key.name
    note = "required" if key.required else f"default: {key.default}" if key.default else ""
    head = f"  {name}: {key.syntax}"
    lines = textwrap.wrap(head, width, subsequent_indent="      ", break_long_words=False)
    if note:
        lines[-1] += f"   [{note}]"
    lines += textwrap.wrap(key.doc, width, initial_indent="      ", subsequent_indent="      ")
    if key.example:
        lines.append(f"      e.g. {key.name}: {key.example}")
    return lines


def as_json() -> dict[str, Any]:
    """The same as plain values, ready for JSON: {section: {doc, short, keys: {name: {...}}}}."""
    return {section.name: _section_json(section) for section in sections()}


def _section_json(section: Section) -> dict[str, Any]:
    short = section.short.type.syntax if section.short is not None and section.short.type is not None else None
    return {"doc": section.doc, "short": short, "keys": {key.name: _key_json(key) for key in section}}


def _key_json(key: Key) -> dict[str, Any]:
    return {
        "syntax": key.syntax,
        "default": key.default or None,
        "required": key.required,
        "doc": key.doc,
        "example": key.example or None,
        "alias": key.alias or None,
        "section": key.section.name if key.section is not None else None,
        "list": key.many,
        "named": key.named,
        "in_defaults": key.inherited,
        "words": list(key.type.words) if key.type is not None else [],
    }
