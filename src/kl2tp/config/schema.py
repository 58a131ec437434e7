"""The one table of the configuration language: it drives the reader, the messages and the reference."""

from functools import lru_cache
from typing import Any

from kl2tp.config import call_schema, ike_scalars, scalar, template
from kl2tp.config import reference as _reference
from kl2tp.config.ike_schema import IKE, LAC_IPSEC, LNS_IPSEC
from kl2tp.config.key import Key, Section, inheritable, section

# fmt: off

DAEMON = section(
    "daemon", "Settings of `kl2tp daemon` itself. In the main file only.",
    Key("resync_interval", scalar.RESYNC,
        "Time between full comparisons with the kernel. Events repair changes at once; this finds the rest.",
        eg="1h", default="5m", fills=("DaemonSpec.resync_interval",)),
    Key("log_level", scalar.LOG_LEVEL, "How much is logged.",
        eg="debug", default="info", fills=("DaemonSpec.log_level",)),
    Key("keep_calls", scalar.BOOLEAN,
        "Whether calls outlive a stop of the daemon, as they do a crash or `kl2tp restart`: the keeper holds them.",
        eg="true", default="false", fills=("DaemonSpec.keep_calls",)),
    Key("charon", ike_scalars.CHARON,
        "strongSwan's charon, which negotiates where ike is: its vici socket. It needs `charon { group = kl2tp }` in "
        "/etc/strongswan.d/kl2tp.conf, as kl2tp is not root.",
        eg="unix:///run/strongswan/charon.vici", default="unix:///run/charon.vici", fills=("DaemonSpec.charon",)),
    Key("marks", ike_scalars.MARKS,
        "Packet marks for the clients of an LNS in IPsec, one each: those that are BASE where MASK has ones. Keep your "
        "firewall's marks clear of them.",
        eg="0x40000000/0xffff0000", default="0x6b000000/0xffff0000", fills=("DaemonSpec.marks",)),
)

PEER_ROUTE = section(
    "route", "A host route to the peer, made before the tunnel. Short form: the gateway alone.",
    Key("via", scalar.GATEWAY, "Gateway.", eg="198.51.100.254", fills=("RouteSpec.via",)),
    Key("device", scalar.DEVICE, "Outgoing device.", eg="eth0", fills=("TunnelSpec.route_device",)),
    Key("metric", scalar.METRIC, "The lower one wins.", eg="100", default="0", fills=("RouteSpec.metric",)),
    Key("table", scalar.TABLE, "Routing table.", eg="100", default="main", fills=("RouteSpec.table",)),
    short=Key("via", scalar.either({"none": b""}, scalar.GATEWAY), "The gateway; none: no route."),
)

OFFLOAD = section(
    "offload", "ESP in the network card. Short form: off.",
    Key("device", scalar.DEVICE, "The card.", eg="eth0", required=True, fills=("IpsecSpec.offload_device",)),
    Key("type", scalar.OFFLOAD, "crypto: the card encrypts; packet: it does all of ESP, policies too.",
        eg="packet", default="crypto", fills=("IpsecSpec.offload_packet",)),
    short=Key("off", scalar.OFF, "No offload."),
)

IPSEC = section(
    "ipsec",
    "Protection by ESP, with static keys or with those that IKE negotiates: no packet of the tunnel leaves or enters "
    "in clear. All keys but ike, mode, reqid and replay_window are about static keys. Short form: off.",
    Key("ike", None, "The keys are negotiated.",
        eg="{psk_file: /etc/kl2tp/ike.psk}", section=IKE, inherited=True, fills=("TunnelSpec.ike",)),
    Key("proposal", scalar.PROPOSAL, "The cipher.",
        eg="chacha20poly1305", default="aes256gcm16", inherited=True, fills=("IpsecSpec.cipher",)),
    Key("key_file", scalar.FILE, "The key file, the same on both ends; `kl2tp genkey` makes one.",
        eg="/etc/kl2tp/keys/madrid.key", inherited=True, fills=("IpsecSpec.key_file",)),
    Key("key_dir", scalar.DIRECTORY, "Directory of key files: each tunnel takes NAME.key from it.",
        eg="/etc/kl2tp/keys", inherited=True, fills=("IpsecSpec.key_file",)),
    Key("credential", scalar.CREDENTIAL, "The systemd credential that holds the key file (LoadCredential=).",
        eg="madrid.key", inherited=True, fills=("IpsecSpec.key_file",)),
    Key("mode", scalar.MODE, "transport costs 20 bytes (IPv6: 40) less than tunnel. Both ends must agree.",
        eg="tunnel", default="transport", inherited=True, fills=("IpsecSpec.mode", "IkeSpec.mode")),
    Key("reqid", scalar.REQID, "The number that ties policies to their SAs.",
        eg="4001", default="0x6b6c0000 + our tunnel id", fills=("IpsecSpec.reqid", "IkeSpec.reqid")),
    Key("esn", scalar.BOOLEAN, "Extended sequence numbers (RFC 4303 2.2.1). Both ends must agree.",
        eg="true", default="false", inherited=True, fills=("IpsecSpec.esn",)),
    Key("replay_window", scalar.WINDOW,
        "Packets. 0 checks nothing: right for static keys, as a peer that restarts counts from 1 again.",
        eg="128", default="0; 64 with esn; 128 with ike", inherited=True,
        fills=("IpsecSpec.replay_window", "IkeSpec.replay_window")),
    Key("nat_traversal", scalar.NAT,
        "ESP in UDP (RFC 3948): our port and the peer's. Set side too, as the ends see different addresses.",
        eg="4500/4500", default="off", inherited=True,
        fills=("IpsecSpec.nat_local_port", "IpsecSpec.nat_remote_port")),
    Key("mark", scalar.MARK, "Protect only packets that carry this mark.",
        eg="0x10/0xff", default="none", inherited=True, fills=("IpsecSpec.mark",)),
    Key("offload", None, "ESP in the network card.",
        eg="{device: eth0, type: crypto}", default="off", section=OFFLOAD, inherited=True),
    Key("side", scalar.SIDE,
        "Which half of the keys we send with: left on one end, right on the other. auto compares addresses.",
        eg="left", default="auto", inherited=True, fills=("IpsecSpec.side",)),
    Key("overlap", scalar.OVERLAP,
        "When the key file changes: how long old and new keys are both accepted, seconds.",
        eg="30", default="10", inherited=True, fills=("IpsecSpec.overlap",)),
    short=Key("off", scalar.OFF, "No protection."),
)

ROUTE = section(
    "interface route", "A route into the interface. Short form: the prefix alone.",
    Key("to", scalar.DESTINATION, "Where to.", eg="10.2.0.0/16", required=True,
        fills=("RouteSpec.destination", "RouteSpec.prefix_length")),
    Key("via", scalar.GATEWAY, "Gateway behind the interface.", eg="10.64.0.2", fills=("RouteSpec.via",)),
    Key("metric", scalar.METRIC, "The lower one wins.", eg="100", default="0", fills=("RouteSpec.metric",)),
    Key("table", scalar.TABLE, "Routing table.",
        eg="100", default="main, or that of the VRF", fills=("RouteSpec.table",)),
    short=Key("to", scalar.DESTINATION, "Where to."),
)

INTERFACE = section(
    "interface", "The network device of a session. Short form: its name alone.",
    Key("name", scalar.DEVICE, "At most 15 characters.",
        eg="mad0", default="TUNNEL-SESSION, if that is short enough", fills=("InterfaceSpec.name",)),
    Key("mtu", scalar.MTU,
        "Bytes. auto: the path's MTU less every header of the tunnel (`kl2tp mtu` shows them).",
        eg="1400", default="auto", inherited=True, fills=("InterfaceSpec.mtu",)),
    Key("addresses", scalar.INTERFACE_ADDRESS, "One address or a list of them.",
        eg="[10.64.0.1/30, 2001:db8:64::1/64]", many=True, alias="address",
        fills=("InterfaceSpec.addresses",)),
    Key("routes", None, "Routes into the interface.",
        eg="[10.2.0.0/16]", section=ROUTE, many=True, fills=("InterfaceSpec.routes",)),
    Key("bridge", scalar.MASTER, "The bridge that the device joins; it must exist.",
        eg="br-lan", default="none", inherited=True, fills=("InterfaceSpec.bridge",)),
    Key("vrf", scalar.MASTER, "The VRF that the device joins; it must exist.",
        eg="vrf-blue", default="none", inherited=True, fills=("InterfaceSpec.vrf",)),
    Key("netns", scalar.NETNS, "The network namespace that the device moves to; `default` is the daemon's.",
        eg="customer1", default="the tunnel's", inherited=True, fills=("InterfaceSpec.netns",)),
    Key("mss", scalar.MSS, "Limit for the TCP segments through the device, bytes. auto: from the MTU.",
        eg="1300", default="auto", inherited=True, fills=("InterfaceSpec.mss",)),
    Key("mac", scalar.MAC, "Link-layer address.",
        eg="02:00:00:00:00:01", default="the kernel's choice", fills=("InterfaceSpec.mac",)),
    Key("up", scalar.BOOLEAN, "Whether the device is switched on.",
        eg="false", default="true", inherited=True, fills=("InterfaceSpec.up",)),
    short=Key("name", scalar.DEVICE, "The name."),
)

COOKIE = section(
    "cookie",
    "Cookies (RFC 3931 4.1). Short form: none, or auto (8 bytes), auto4, auto8: derived from the key file.",
    Key("local", scalar.COOKIE, "What we expect in received packets: 8 or 16 hexadecimal digits.",
        eg="0badcafe", required=True, fills=("CookieSpec.local",)),
    Key("peer", scalar.COOKIE, "What we put into the packets we send.",
        eg="0123456789abcdef", required=True, fills=("CookieSpec.peer",)),
    short=Key("kind", scalar.COOKIE_KIND, "Derived or none.", fills=("CookieSpec.length",)),
)

SESSION = section(
    "session", "One Ethernet pseudowire in a tunnel.",
    Key("ids", scalar.IDS,
        "Our session id and the peer's. With encapsulation ip ours is unique on the whole host.",
        eg="1/1", default="the tunnel's ids", fills=("SessionSpec.id", "SessionSpec.peer_id")),
    Key("cookie", None, "Cookies, which keep forged packets out.",
        eg="auto", default="none", section=COOKIE, inherited=True, fills=("SessionSpec.cookie",)),
    Key("sequencing", scalar.SEQUENCING,
        "send: number our packets; require: drop the peer's that have no number; both.",
        eg="both", default="none", inherited=True,
        fills=("SessionSpec.send_sequence", "SessionSpec.require_sequence")),
    Key("reorder", scalar.REORDER,
        "How long a packet that came too early waits for those before it, milliseconds.",
        eg="50ms", default="0", inherited=True, fills=("SessionSpec.reorder_ms",)),
    Key("l2_sublayer", scalar.L2_SUBLAYER,
        "The L2-specific sublayer (RFC 3931 3.2.2), 4 bytes. Both ends must agree.",
        eg="none", default="default", inherited=True, fills=("SessionSpec.l2spec",)),
    Key("interface", None, "The network device.",
        eg="{name: mad0, bridge: br-lan}", section=INTERFACE, fills=("SessionSpec.interface",)),
)

TUNNEL = section(
    "tunnel", "One L2TPv3 tunnel to one peer.",
    Key("local", scalar.ENDPOINT, "Our address.",
        eg="198.51.100.1", required=True, inherited=True, fills=("TunnelSpec.local",)),
    Key("remote", scalar.ENDPOINT, "The peer's address.",
        eg="203.0.113.7", required=True, fills=("TunnelSpec.remote",)),
    Key("encapsulation", scalar.ENCAPSULATION,
        "ip: protocol 115; udp: through NAT and firewalls, 12 bytes more.",
        eg="udp", default="ip", inherited=True, fills=("TunnelSpec.encap",)),
    Key("ids", scalar.IDS, "Our tunnel id and the peer's, 1..4294967295; one number stands for both.",
        eg="1001/2001", required=True, fills=("TunnelSpec.id", "TunnelSpec.peer_id")),
    Key("ports", scalar.PORTS,
        "UDP only: our port and the peer's. Tunnels can't share a local address and port.",
        eg="20001/1701", default="1701/1701", inherited=True,
        fills=("TunnelSpec.local_port", "TunnelSpec.remote_port")),
    Key("checksum", scalar.BOOLEAN, "UDP only: whether checksums are used.",
        eg="false", default="true", inherited=True, fills=("TunnelSpec.checksum",)),
    Key("netns", scalar.NETNS,
        "The network namespace of the tunnel's own packets; `default` is the daemon's.",
        eg="uplink", default="default", inherited=True, fills=("TunnelSpec.netns",)),
    Key("path_mtu", scalar.PATH_MTU,
        "MTU of the path to the peer, bytes: the MTUs of interfaces follow from it.",
        eg="1492", default="1500", inherited=True, fills=("TunnelSpec.path_mtu",)),
    Key("route", None, "A host route to the peer.",
        eg="{via: 198.51.100.254, device: eth0}", section=PEER_ROUTE, inherited=True,
        fills=("TunnelSpec.route",)),
    Key("secret_file", scalar.OPTIONAL_FILE,
        "Key file from which cookies are derived when there is no ipsec.",
        eg="/etc/kl2tp/keys/madrid.key", default="none", inherited=True,
        fills=("TunnelSpec.secret_file",)),
    Key("ipsec", None, "Protection by ESP.",
        eg="{key_file: /etc/kl2tp/keys/madrid.key}", default="off", section=IPSEC, inherited=True,
        fills=("TunnelSpec.ipsec",)),
    Key("sessions", None, "The pseudowires, by name.",
        eg="{lan: {ids: 1/1, interface: mad0}}", section=SESSION, named=True, required=True,
        fills=("TunnelSpec.sessions", "SessionSpec.name")),
)

SET = section(
    "set",
    "Many tunnels from one template. Any value may hold {n}, {n:04}, {n // 250 + 1}; quote it if it begins "
    "with a brace or stands inside [ ] or { }. Expressions are whole-number arithmetic: n + - * // % ( ).",
    Key("range", scalar.Type("FIRST-LAST[,...]", template.numbers), "The values of n.",
        eg="1-500,600", required=True),
    *TUNNEL,
)

DEFAULTS_IPSEC = inheritable("defaults.ipsec", "What every tunnel's ipsec inherits.", IPSEC, IPSEC.short)
DEFAULTS_SESSION = inheritable("defaults.session", "What every session inherits.", SESSION)
DEFAULTS_INTERFACE = inheritable("defaults.interface", "What every interface inherits.", INTERFACE)
DEFAULTS = section(
    "defaults",
    "What tunnels, sessions, interfaces and calls inherit, key by key, unless they say otherwise. Main file only.",
    *(key for key in TUNNEL if key.inherited and key.name != "ipsec"),
    Key("ipsec", None, "For every tunnel's ipsec: it protects all of them.",
        eg="{key_dir: /etc/kl2tp/keys}", section=DEFAULTS_IPSEC),
    Key("session", None, "For every session.", eg="{cookie: auto}", section=DEFAULTS_SESSION),
    Key("interface", None, "For every session's interface.", eg="{mtu: 1400}", section=DEFAULTS_INTERFACE),
    Key("lns", None, "For every LNS profile.", eg="{control: {hello: 30s}}", section=call_schema.DEFAULTS_LNS),
    Key("lac", None, "For every call that we place.", eg="{user: branch1}", section=call_schema.DEFAULTS_LAC),
)

TOP = section(
    "file", "kl2tp.yaml. The files conf.d/*.yaml beside it add to all but defaults and daemon.",
    Key("defaults", None, "What all tunnels and calls inherit.", section=DEFAULTS),
    Key("tunnels", None, "The tunnels, by name.", section=TUNNEL, named=True,
        fills=("Desired.tunnels", "TunnelSpec.name", "TunnelSpec.where")),
    Key("sets", None, "Many tunnels from one template, by name: branch-{n:04}.", section=SET, named=True,
        fills=("Desired.tunnels", "TunnelSpec.name", "TunnelSpec.where")),
    Key("lns", None, "Peers that call us, by the name of their profile.", section=call_schema.LNS, named=True,
        fills=("Desired.lns", "LnsSpec.name", "LnsSpec.where")),
    Key("lac", None, "Calls that we place, by name.", section=call_schema.LAC, named=True,
        fills=("Desired.lac", "LacSpec.name", "LacSpec.where")),
    Key("pools", None, "Addresses for peers, by name.", section=call_schema.POOL, named=True,
        fills=("Desired.pools", "PoolSpec.name", "PoolSpec.where")),
    Key("users", None, "Who may log in.", section=call_schema.USERS, fills=("Desired.users",)),
    Key("daemon", None, "Settings of the daemon.", section=DAEMON, fills=("Desired.daemon",)),
)

# fmt: on

_SECRETS = ("key", "keys", "secret", "shared_secret", "psk", "password", "passphrase")
_FILE = "put it into a file that only root can read, and name that file"
_BY_FILE = ("psk_file", "key_file", "secret_file", "password_file", "files")
"""Keys that name files with secrets."""
_STATIC = "static keys can't serve peers that are not known beforehand: ike: {psk_file: /etc/kl2tp/ike.psk}"
ADVICE: dict[str, tuple[str, str]] = {
    **dict.fromkeys(_SECRETS, (": a secret never stands in the configuration", _FILE)),
}
"""Keys that people expect, with what to say about them: after the word, and as a hint."""

SYNONYMS: dict[str, str] = {
    word: key
    for key, words in {
        "encapsulation": "encap",
        "remote": "peer peer_address dst destination",
        "local": "src source",
        "ids": "id tunnel_id peer_id peer_tunnel_id session_id peer_session_id",
        "ports": "port udp_port local_port remote_port",
        "checksum": "udp_csum",
        "proposal": "cipher algorithm encryption",
        "nat_traversal": "nat natt nat_t",
        "netns": "namespace",
        "name": "ifname",
        "addresses": "ip addr",
        "bridge": "master",
        "routes": "route",
        "sequencing": "seq sequence",
        "cookie": "cookies",
        "l2_sublayer": "l2spec l2specific",
        "path_mtu": "pmtu",
        "sessions": "session",
        "session": "sessions",
        "interface": "interfaces device",
        "resync_interval": "resync",
        "log_level": "loglevel",
        "mac": "hwaddr lladdr",
        "tunnels": "tunnel",
        "sets": "set",
        "defaults": "default",
        "lns": "server servers",
        "lac": "client clients calls",
        "pools": "pool ip_range",
        "users": "user accounts chap_secrets",
        "listen": "listen_addr listen_address bind",
        "pool": "ip_pool",
        "version": "keyexchange ike_version",
        "remote_auth": "rightauth peer_auth",
        "psk_file": "secret_file secrets",
        "certificate_file": "cert certs certificate certificates leftcert cert_file",
        "private_key_file": "key_file private_key privatekey",
        "ca_file": "ca cacert cacerts ca_cert trust",
        "local_id": "leftid left_id my_id id_local identity",
        "remote_id": "rightid right_id id_remote peer_identity",
        "proposals": "ike phase1 ike_proposals ciphers",
        "esp_proposals": "esp phase2 phase2alg",
        "rekey": "lifetime salifetime rekey_time life_time keylife",
        "ike_rekey": "ikelifetime ike_rekey_time ike_lifetime",
        "reauth": "reauth_time",
        "dpd": "dpd_delay dpddelay",
        "dpd_timeout": "dpdtimeout",
        "initiate": "auto start_action",
        "charon": "vici vici_socket strongswan",
        "marks": "fwmark mark_range",
        "auth": "authentication require",
        "nbns": "wins ms_wins",
        "hello": "hello_interval keepalive",
        "dns": "ms_dns dns_servers nameservers",
        "user": "username login",
        "retry": "redial redial_timeout",
        "persist": "autodial",
        "host_names": "hostnames",
        "window": "rws tunnel_rws",
        "echo": "lcp_echo echo_interval",
        "ranges": "range addresses",
        "limits": "limit",
        "hooks": "hook scripts",
    }.items()
    for word in words.split()
}
"""What other tools, or haste, call a key."""


@lru_cache(1024)
def advice(where: Section, word: str) -> tuple[str, str, str]:
    """What to say about an unknown key: (message, hint, the key that was probably meant)."""
    if word.lower() in ADVICE:
        what, hint = ADVICE[word.lower()]
        files = sorted(_BY_FILE, key=lambda key: key[:4] != word.lower()[:4])
        return f"{word}{what}", hint, next((key for key in files if key in where.keys), "")
    message = f"unknown key {scalar.show(word)} in {where.name}"
    meant = SYNONYMS.get(word.lower(), "")
    if meant not in where.keys:
        meant = scalar.similar(word.replace("-", "_"), where.keys)
    if meant:
        return message, f"did you mean {meant}?", where.keys[meant].name
    return message, _elsewhere(where, word) or f"known keys: {', '.join(key.name for key in where)}", ""


def _elsewhere(where: Section, word: str) -> str:
    if where in (LNS_IPSEC, LAC_IPSEC) and word in IPSEC.keys:
        return _STATIC
    homes = [other.name for other in sections() if word in other.keys and other is not where]
    return f"{word} belongs in {' or '.join(homes[:2])}" if homes else ""


def sections() -> tuple[Section, ...]:
    """All sections, in the order of the reference."""
    return (
        *(TOP, TUNNEL, SESSION, COOKIE, INTERFACE, ROUTE, IPSEC, OFFLOAD, PEER_ROUTE, SET),
        *call_schema.SECTIONS,
        *(DEFAULTS, DEFAULTS_SESSION, DEFAULTS_INTERFACE, DEFAULTS_IPSEC),
        *(call_schema.DEFAULTS_LNS, call_schema.DEFAULTS_LAC, DAEMON),
    )


def reference(width: int = 110) -> str:
    """Every key with its form, default, meaning and an example, as text: what `kl2tp schema` prints."""
    return _reference.text(sections(), width)


def as_json() -> dict[str, Any]:
    """The same as plain values, ready for JSON: {section: {doc, short, keys: {name: {...}}}}."""
    return _reference.plain(sections())
