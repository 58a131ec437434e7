"""Wrong configurations, one per kind of error.

In the text `§` stands before the place where the error must be reported, and `¤` before a second place, which the
message names as {other}. Both are taken out before the text is loaded.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """A configuration with one error."""

    name: str
    text: str
    message: str
    hint: str = ""


def tunnel(keys: str, sessions: str = "s: {interface: i}", local: str = "local: 10.0.0.1") -> str:
    """A tunnel that is right but for `keys`."""
    return f"tunnels: {{t: {{{local}, {keys}, sessions: {{{sessions}}}}}}}"


def session(keys: str) -> str:
    """A session that is right but for `keys`."""
    return tunnel("remote: 10.0.0.2, ids: 1", f"s: {{{keys}}}")


def interface(keys: str) -> str:
    """An interface that is right but for `keys`."""
    return session(f"interface: {{name: i, {keys}}}")


def ipsec(keys: str) -> str:
    """A protected tunnel that is right but for `keys`."""
    return tunnel(f"remote: 10.0.0.2, ids: 1, ipsec: {{{keys}}}")


def two(first: str, second: str, common: str = "local: 10.0.0.1") -> str:
    """Two tunnels in flow style, one per line, each right but for its keys."""
    return (
        "tunnels:\n"
        f"  a: {{{common}, {first}, sessions: {{s: {{interface: i}}}}}}\n"
        f"  b: {{{common}, {second}, sessions: {{s: {{interface: j}}}}}}\n"
    )


def two_interfaces(first: str, second: str) -> str:
    """Two sessions of one tunnel, each right but for its interface."""
    return (
        "tunnels:\n  t:\n    local: 10.0.0.1\n    remote: 10.0.0.2\n    ids: 1\n    sessions:\n"
        f"      a: {{ids: 1, interface: {{{first}}}}}\n"
        f"      b: {{ids: 2, interface: {{{second}}}}}\n"
    )


def family(name: str) -> str:
    """A set of two tunnels called `name`, right but for that."""
    return (
        f"sets:\n  {name}:\n    range: 1-2\n    local: 10.0.0.1\n    remote: 10.0.1.{{n}}\n"
        '    ids: "{n}"\n    sessions: {s: {interface: "i{n}"}}\n'
    )


def one_of_set(keys: str, sessions: str = '{s: {interface: "i{n}"}}') -> str:
    """A set of tunnels, right but for `keys`."""
    return f"sets:\n  t{{n}}:\n    range: 1-3\n    local: 10.0.0.1\n    {keys}\n    sessions: {sessions}\n"


KEY = "key_file: /k"

YAML = [
    Wrong("empty file", "", "there is nothing in it", "begin with tunnels"),
    Wrong("only comments", "# nothing\n", "there is nothing in it"),
    Wrong("an empty document", "---\n...\n", "there is nothing in it"),
    Wrong(
        "a tab",
        "tunnels:\n§\tt: {}\n",
        "not YAML: while scanning for the next token: found character that cannot start any token",
        "indent with spaces",
    ),
    Wrong(
        "a bracket that is not closed",
        "tunnels: {t: {remote: 10.0.0.1\n§",
        "not YAML: while parsing a flow mapping: did not find expected ',' or '}'",
    ),
    Wrong(
        "an expression that is not quoted",
        "sets:\n  t{n}:\n    ids: {1000 + n}§/1\n",
        "not YAML: while parsing a block mapping: did not find expected key",
        'must be quoted: "{1000 + n}/1"',
    ),
    Wrong(
        "an expression in a list that is not quoted",
        "sets:\n  t{n}:\n    x: [10.0.0.§{n}]\n",
        "not YAML: while parsing a flow sequence: did not find expected ',' or ']'",
        "inside [ ] and { } quote",
    ),
    Wrong(
        "a value that begins with a per cent sign",
        "tunnels: {t: {x: §%any}}\n",
        "not YAML: while scanning for the next token: found character that cannot start any token",
        "a value that begins with % must be quoted",
    ),
    Wrong(
        "a value that begins with an asterisk",
        "tunnels: {t: {x: *§.example.org}}\n",
        "not YAML: while scanning an alias: did not find expected alphabetic or numeric character",
        "a value that begins with * must be quoted",
    ),
    Wrong("a control character", "tunnels:\n  t: a§\x07b\n", "the character U+0007 is not allowed in YAML", "remove"),
    Wrong("a second document", "tunnels: {}\n§---\ntunnels: {}\n", "a second document begins here", "one document"),
    Wrong("a tag", "tunnels: §!python/object {}\n", "the tag '!python/object' means nothing here", "remove"),
    Wrong("an unknown anchor", "tunnels: §*nowhere\n", "there is no anchor '&nowhere' before this alias"),
    Wrong(
        "an alias in itself",
        "tunnels: &a {x: §*a}\n",
        "the alias '*a' is inside the very value it stands for",
    ),
    Wrong("a merge of no mapping", "defaults: {<<: §x}\n", "'<<' merges mappings only", "<<: *name"),
    Wrong("a key that is no text", "tunnels:\n  §{n}: {}\n", "a key must be text", "quote it"),
    Wrong("too deep", "a: " + "[" * 31 + "§[", "nested deeper than 32 levels"),
    Wrong("no mapping", "§- tunnels\n", "the file is not a mapping", "defaults, tunnels, sets, lns, lac"),
]

STRUCTURE = [
    Wrong("an unknown key", "§tunel: {}\n", "unknown key 'tunel' in file", "did you mean tunnels?"),
    Wrong(
        "a mistyped key",
        tunnel("remote: 10.0.0.2, ids: 1, §encapsulaton: udp"),
        "unknown key 'encapsulaton' in tunnel",
        "did you mean encapsulation?",
    ),
    Wrong(
        "a key of other tools",
        tunnel("remote: 10.0.0.2, ids: 1, §encap: udp"),
        "unknown key 'encap' in tunnel",
        "did you mean encapsulation?",
    ),
    Wrong(
        "a key in the wrong place",
        tunnel("remote: 10.0.0.2, ids: 1, §cookie: auto"),
        "unknown key 'cookie' in tunnel",
        "cookie belongs in session",
    ),
    Wrong(
        "a secret in the file",
        ipsec("§key: 0123456789abcdef"),
        "key: a secret never stands in the configuration",
        "name that file",
    ),
    Wrong(
        "a key twice",
        "tunnels:\n  t:\n    ¤local: 10.0.0.1\n    remote: 10.0.0.2\n    ids: 1\n    §local: 10.0.0.3\n"
        "    sessions: {s: {interface: i}}\n",
        "'local' is here for the second time; first at {other}",
        "remove one",
    ),
    Wrong(
        "a key and its alias",
        interface("¤address: 10.1.0.1/30, §addresses: [10.2.0.1/30]"),
        "addresses and address (at {other}) are the same key",
        "one list",
    ),
    Wrong(
        "a session twice",
        tunnel("remote: 10.0.0.2, ids: 1", "¤s: {interface: i}, §s: {ids: 2, interface: j}"),
        "'s' is here for the second time; first at {other}",
    ),
    Wrong(
        "a section twice",
        "¤tunnels: {}\n§tunnels: {}\n",
        "'tunnels' is here for the second time; first at {other}",
    ),
    Wrong(
        "no value",
        "tunnels:\n  t:\n    local: 10.0.0.1\n    §remote:\n    ids: 1\n    sessions: {s: {interface: i}}\n",
        "remote has no value",
        "e.g. remote: 203.0.113.7",
    ),
    Wrong(
        "a mapping for a value",
        "tunnels:\n  t:\n    local: 10.0.0.1\n    remote: §{n}\n    ids: 1\n    sessions: {s: {interface: i}}\n",
        "remote: a mapping where one value belongs",
        'quote the value, "{n}"',
    ),
    Wrong(
        "a list for a value",
        tunnel("remote: §[10.0.0.2], ids: 1"),
        "remote: a list where one value belongs",
        "write IPv4 or IPv6 address",
    ),
    Wrong(
        "a value for a mapping",
        "tunnels:\n  t: §hello\n",
        "t: one value where a mapping belongs",
        "tunnel has the keys local, remote",
    ),
    Wrong(
        "a list for names",
        tunnel("remote: 10.0.0.2, ids: 1").replace("{s: {interface: i}}", "§[s]"),
        "sessions: a list where a mapping from names belongs",
        "write NAME: {session}",
    ),
    Wrong("a list of tunnels", "tunnels: §[t]\n", "tunnels: a list where a mapping from names belongs"),
    Wrong(
        "a missing key",
        "tunnels: {§t: {local: 10.0.0.1, ids: 1, sessions: {s: {interface: i}}}}",
        "t: remote is missing",
        "e.g. remote: 203.0.113.7",
    ),
    Wrong(
        "no sessions",
        "tunnels: {§t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1}}",
        "t: a tunnel without sessions carries nothing",
        "e.g. sessions",
    ),
    Wrong(
        "empty sessions",
        "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, sessions: §{}}}",
        "t: a tunnel without sessions carries nothing",
    ),
    Wrong(
        "a tunnel's name",
        "tunnels: {§a/b: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, sessions: {s: {interface: i}}}}",
        "'a/b' is not a name",
        "letters, digits",
    ),
    Wrong(
        "a long name",
        f"tunnels: {{§{'x' * 65}: {{local: 10.0.0.1, remote: 10.0.0.2, ids: 1, sessions: {{s: {{interface: i}}}}}}}}",
        f"'{'x' * 65}' has more than 64 characters",
    ),
    Wrong("a session's name", tunnel("remote: 10.0.0.2, ids: 1", "§-s: {interface: i}"), "'-s' is not a name"),
]

SCALARS = [
    Wrong(
        "an address",
        tunnel("remote: §10.0.0.300, ids: 1"),
        "remote: '10.0.0.300' is not an IPv4 or IPv6 address",
        "from 0 to 255",
    ),
    Wrong(
        "a host name",
        tunnel("remote: §hub.example.net, ids: 1"),
        "remote: 'hub.example.net' is not an IPv4 or IPv6 address",
        "names are not looked up",
    ),
    Wrong(
        "an address with a prefix",
        tunnel("remote: §10.0.0.2/24, ids: 1"),
        "remote: '10.0.0.2/24' is not an IPv4 or IPv6 address",
        "without a prefix length",
    ),
    Wrong(
        "a zone",
        tunnel("remote: §fe80::1%eth0, ids: 1"),
        "remote: 'fe80::1%eth0' is not an IPv4 or IPv6 address",
        "zone",
    ),
    Wrong("a link-local address", tunnel("remote: §fe80::1, ids: 1"), "remote: 'fe80::1' is a link-local address"),
    Wrong("a multicast address", tunnel("remote: §224.0.0.1, ids: 1"), "remote: '224.0.0.1' is a multicast address"),
    Wrong("an IPv6 multicast address", tunnel("remote: §ff02::1, ids: 1"), "remote: 'ff02::1' is a multicast address"),
    Wrong("an unspecified address", tunnel("remote: §0.0.0.0, ids: 1"), "remote: '0.0.0.0' is the unspecified address"),
    Wrong(
        "a broadcast address",
        tunnel("remote: §255.255.255.255, ids: 1"),
        "remote: '255.255.255.255' is a broadcast or reserved address",
    ),
    Wrong(
        "a mapped address",
        tunnel("remote: §'::ffff:10.0.0.2', ids: 1"),
        "remote: '::ffff:10.0.0.2' is an IPv4 address in IPv6 form",
        "write 10.0.0.2",
    ),
    Wrong(
        "a leading zero",
        tunnel("remote: 10.0.0.2, ids: §010"),
        "ids: '010' is not a whole number",
        "write 10 if it is decimal, 0x8 if octal was meant",
    ),
    Wrong(
        "a leading zero that is no octal",
        tunnel("remote: 10.0.0.2, ids: §089"),
        "ids: '089' is not a whole number",
        "write 89",
    ),
    Wrong(
        "an octal number",
        tunnel("remote: 10.0.0.2, ids: §0o17"),
        "ids: '0o17' is not a whole number",
        "octal is not used here: write 15",
    ),
    Wrong(
        "a grouped number", tunnel("remote: 10.0.0.2, ids: §1_000"), "ids: '1_000' is not a whole number", "write 1000"
    ),
    Wrong("a time for a number", interface("mtu: §12:30"), "mtu: '12:30' is not a whole number"),
    Wrong("a fraction", interface("mtu: §1400.0"), "mtu: '1400.0' is not a whole number"),
    Wrong("a negative number", tunnel("remote: 10.0.0.2, ids: §-1"), "ids: '-1' is not a whole number"),
    Wrong("id 0", tunnel("remote: 10.0.0.2, ids: §0/1"), "ids: '0' is not from 1 to 4294967295"),
    Wrong(
        "an id of 33 bits",
        tunnel("remote: 10.0.0.2, ids: §4294967296/1"),
        "ids: '4294967296' is not from 1 to 4294967295",
    ),
    Wrong(
        "a huge id",
        tunnel(f"remote: 10.0.0.2, ids: §{'9' * 5000}"),
        f"ids: '{'9' * 77}...' is a number beyond all bounds",
    ),
    Wrong(
        "port 0",
        tunnel("remote: 10.0.0.2, ids: 1, encapsulation: udp, ports: §0/1701"),
        "ports: '0' is not from 1 to 65535",
    ),
    Wrong(
        "port 65536",
        tunnel("remote: 10.0.0.2, ids: 1, encapsulation: udp, ports: §1701/65536"),
        "ports: '65536' is not from 1 to 65535",
    ),
    Wrong(
        "no boolean",
        tunnel("remote: 10.0.0.2, ids: 1, encapsulation: udp, checksum: §1"),
        "checksum: '1' is neither true nor false",
        "write true or false",
    ),
    Wrong(
        "no choice",
        tunnel("remote: 10.0.0.2, ids: 1, encapsulation: §upd"),
        "encapsulation: 'upd' is none of ip, udp",
        "did you mean udp?",
    ),
    Wrong("an mtu", interface("mtu: §67"), "mtu: '67' is not from 68 to 65535 bytes"),
    Wrong(
        "a path mtu",
        tunnel("remote: 10.0.0.2, ids: 1, path_mtu: §100"),
        "path_mtu: '100' is not from 576 to 65535 bytes",
    ),
    Wrong("an mss", interface("mss: §9"), "mss: '9' is not from 88 to 65495 bytes"),
    Wrong(
        "a time",
        session("sequencing: both, reorder: §soon, interface: i"),
        "reorder: 'soon' is not a time",
        "500ms, 10s, 5m, 1h",
    ),
    Wrong(
        "a long time",
        session("sequencing: both, reorder: §1h, interface: i"),
        "reorder: '1h' is not from 0 to 10000 ms",
    ),
    Wrong(
        "a mark",
        ipsec(f"{KEY}, mark: §0x100/0xff"),
        "mark: '0x100/0xff' has bits in its value that its mask leaves out: nothing would ever match",
    ),
    Wrong("an empty mask", ipsec(f"{KEY}, mark: §0/0"), "mark: '0/0' has an empty mask: every packet would match"),
    Wrong("a wide mark", ipsec(f"{KEY}, mark: §0x100000000"), "mark: '0x100000000' has more than 32 bits"),
    Wrong(
        "a device's name",
        session("interface: §sixteen-letters1"),
        "interface: 'sixteen-letters1' has 16 characters: a network device's name has at most 15",
    ),
    Wrong("a device's characters", session("interface: §a:b"), "interface: 'a:b' is not a name for a network device"),
    Wrong("a dot", session("interface: §.."), "interface: '..' is not a name for a network device"),
    Wrong("a reserved device", session("interface: §lo"), "interface: 'lo' is a name that the kernel uses itself"),
    Wrong(
        "a namespace's path",
        interface("netns: §/run/netns/x"),
        "netns: '/run/netns/x' is not the name of a network namespace",
        "without a path",
    ),
    Wrong(
        "no prefix length",
        interface("address: §10.1.0.1"),
        "address: '10.1.0.1' has no prefix length",
        "write 10.1.0.1/32",
    ),
    Wrong(
        "a prefix length",
        interface("address: §10.1.0.1/33"),
        "address: '10.1.0.1/33' has a prefix length that is not from 1 to 32",
    ),
    Wrong(
        "a network's address",
        interface("address: §10.1.0.0/30"),
        "address: '10.1.0.0/30' is the address of the network itself",
        "the first host is 10.1.0.1/30",
    ),
    Wrong(
        "a network's broadcast address",
        interface("addresses: [10.1.0.1/30, §10.1.0.3/30]"),
        "addresses: '10.1.0.3/30' is the broadcast address of its network",
        "the last host is 10.1.0.2/30",
    ),
    Wrong(
        "host bits in a route",
        interface("routes: [§10.1.0.1/24]"),
        "routes: '10.1.0.1/24' has bits set beyond its prefix",
        "write 10.1.0.0/24",
    ),
    Wrong(
        "the default route",
        interface("routes: [{to: §default}]"),
        "to: 'default' may be IPv4 or IPv6",
        "write 0.0.0.0/0 or ::/0",
    ),
    Wrong("a mac", interface("mac: §02:00:00:00:00"), "mac: '02:00:00:00:00' is not a MAC address"),
    Wrong(
        "a multicast mac",
        interface("mac: §01:00:00:00:00:01"),
        "mac: '01:00:00:00:00:01' is not the address of one station",
    ),
    Wrong(
        "a cookie's length",
        session("interface: i, cookie: {local: §0badca, peer: none}"),
        "local: the cookie has 6 hexadecimal digits",
        "8 or 16 hexadecimal digits",
    ),
    Wrong(
        "a cookie's digits",
        session("interface: i, cookie: {local: 0badcafe, peer: §secretxx}"),
        "peer: the cookie is not written in hexadecimal",
    ),
    Wrong(
        "a cookie's kind",
        session("interface: i, cookie: §0badcafe"),
        "cookie: the value is none of none, auto, auto4, auto8",
        "{local: HEX, peer: HEX}",
    ),
    Wrong("half a cookie", session("interface: i, cookie: §{local: 0badcafe}"), "t/s: cookie has no peer"),
    Wrong(
        "a relative path",
        ipsec("key_file: §keys/t.key"),
        "key_file: the value is not an absolute path",
        "keys live in files",
    ),
    Wrong(
        "a key for a path",
        ipsec("key_file: §MTIzNDU2Nzg5MDEyMzQ1Njc4OTA="),
        "key_file: the value is not an absolute path",
    ),
    Wrong(
        "a directory for a file", ipsec("key_file: §/etc/keys/"), "key_file: '/etc/keys/' names a directory", "key_dir"
    ),
    Wrong(
        "a path for a credential", ipsec("credential: §/run/x"), "credential: the value is not the name of a credential"
    ),
    Wrong(
        "a weak cipher",
        ipsec(f"{KEY}, proposal: §3des-sha1"),
        "proposal: '3des-sha1' is refused: 3DES has 64-bit blocks: its data can be recovered after some gigabytes"
        " (CVE-2016-2183); use aes256gcm16",
    ),
    Wrong(
        "an unknown cipher",
        ipsec(f"{KEY}, proposal: §aes256gcm61"),
        "proposal: there is no cipher 'aes256gcm61'",
        "did you mean aes256gcm16?",
    ),
    Wrong(
        "ipsec: on",
        tunnel("remote: 10.0.0.2, ids: 1, ipsec: §on"),
        "ipsec: only 'off' may stand here in place of a mapping",
    ),
    Wrong(
        "a replay window", ipsec(f"{KEY}, replay_window: §5000"), "replay_window: '5000' is not from 0 to 4096 packets"
    ),
    Wrong(
        "an expression outside of sets",
        "tunnels:\n  t:\n    local: 10.0.0.1\n    remote: §10.0.0.{n}\n    ids: 1\n    sessions: {s: {interface: i}}\n",
        "remote: '10.0.0.{n}' is not an IPv4 or IPv6 address",
        "in sets only",
    ),
    Wrong(
        "the log level",
        "daemon: {log_level: §verbose}\n",
        "log_level: 'verbose' is none of debug, info, warning, error",
    ),
]

MEANING = [
    Wrong(
        "equal ends",
        tunnel("remote: §10.0.0.1, ids: 1", local="local: ¤10.0.0.1"),
        "t: remote is 10.0.0.1, which is local as well (at {other})",
        "two different ends",
    ),
    Wrong(
        "two IP versions",
        tunnel("remote: §'2001:db8::1', ids: 1", local="local: ¤10.0.0.1"),
        "t: remote is IPv6, local is 10.0.0.1 (at {other})",
        "one IP version",
    ),
    Wrong(
        "ports over ip",
        tunnel("remote: 10.0.0.2, ids: 1, ports: §1/1"),
        "t: ports means nothing with encapsulation ip",
        "set encapsulation: udp",
    ),
    Wrong(
        "a checksum over ip",
        tunnel("remote: 10.0.0.2, ids: 1, checksum: §no"),
        "t: checksum means nothing with encapsulation ip",
    ),
    Wrong(
        "a narrow path for IPv6",
        tunnel("remote: '2001:db8::2', ids: 1, path_mtu: §1200", local="local: '2001:db8::1'"),
        "t: a path_mtu of 1200 is impossible with IPv6",
        "1280",
    ),
    Wrong(
        "too little room for IPv6",
        tunnel("remote: 10.0.0.2, ids: 1, path_mtu: 1300", "s: {interface: {name: i, address: §'2001:db8::1/64'}}"),
        "t/s: a path_mtu of 1300 leaves it 1258 bytes",
        "raise path_mtu",
    ),
    Wrong(
        "a route to nowhere",
        tunnel("remote: 10.0.0.2, ids: 1, route: §{metric: 5}"),
        "t: route names neither via nor device",
    ),
    Wrong(
        "a route of the other version",
        tunnel("remote: 10.0.0.2, ids: 1, route: {via: §'2001:db8::9'}"),
        "t: via is IPv6, the peer IPv4",
    ),
    Wrong(
        "a route through the peer",
        tunnel("remote: 10.0.0.2, ids: 1, route: §10.0.0.2"),
        "t: via is the peer 10.0.0.2 itself",
        "name the device alone",
    ),
    Wrong(
        "a link-local gateway",
        tunnel("remote: '2001:db8::2', ids: 1, route: {via: §fe80::1}", local="local: '2001:db8::1'"),
        "t: via fe80::1 is link-local",
        "name the device too",
    ),
    Wrong(
        "a route through itself",
        tunnel("remote: 10.0.0.2, ids: 1, route: {device: i}", "s: {interface: §i}"),
        "t/s: the route to the peer leads into the tunnel itself, through i",
    ),
    Wrong("no key", ipsec("mode: tunnel").replace("{mode", "§{mode"), "t: ipsec has no key", "key_file"),
    Wrong("two keys", ipsec("key_file: /k, key_dir: §/d"), "t: key_file and key_dir both say where the key is"),
    Wrong("esn without window", ipsec(f"{KEY}, esn: yes, replay_window: §0"), "t: esn needs a replay window"),
    Wrong("offload without device", ipsec(f"{KEY}, offload: §{{type: packet}}"), "t: offload names no device"),
    Wrong(
        "offload behind nat",
        ipsec(f"{KEY}, nat_traversal: ¤4500, offload: §{{device: eth0}}"),
        "t: offload is impossible together with nat_traversal (at {other})",
    ),
    Wrong(
        "a reqid of 0",
        tunnel(f"remote: 10.0.0.2, ids: §2492727296, ipsec: {{{KEY}}}"),
        "t: the reqid that follows from the tunnel id 2492727296 is 0, which means any",
        "give a reqid",
    ),
    Wrong(
        "a secret that is not used",
        tunnel(f"remote: 10.0.0.2, ids: 1, secret_file: §/s, ipsec: ¤{{{KEY}}}"),
        "t: secret_file is not used, as ipsec (at {other}) has a key",
        "remove it",
    ),
    Wrong(
        "a cookie without key",
        session("interface: i, cookie: §auto"),
        "t/s: there is no key from which cookies could be derived",
        "secret_file",
    ),
    Wrong(
        "sequencing without sublayer",
        session("interface: i, l2_sublayer: ¤none, sequencing: §send"),
        "t/s: sequencing needs the L2-specific sublayer, which is none (at {other})",
    ),
    Wrong(
        "reordering without sequencing",
        session("interface: i, reorder: §10"),
        "t/s: reorder needs sequencing: packets without numbers have no order",
    ),
    Wrong(
        "no name for an interface",
        "tunnels: {long-name: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, sessions: {§session: }}}",
        "long-name/session: the interface needs a name: 'long-name-session' has 17 characters:"
        " a network device's name has at most 15",
        "at most 15",
    ),
    Wrong(
        "a bridge and a VRF",
        interface("bridge: ¤b, vrf: §v"),
        "t/s: an interface joins a bridge or a VRF, not both; bridge is at {other}",
    ),
    Wrong(
        "an address in a bridge",
        interface("bridge: ¤b, address: §10.1.0.1/30"),
        "t/s: an interface in a bridge (b, at {other}) has no addresses",
        "to the bridge",
    ),
    Wrong(
        "a route in a bridge",
        interface("bridge: ¤b, routes: §[10.1.0.0/30]"),
        "t/s: an interface in a bridge (b, at {other}) has no routes",
    ),
    Wrong(
        "a small mtu for IPv6",
        interface("mtu: §1200, address: ¤'2001:db8::1/64'"),
        "t/s: an mtu of 1200 is impossible with IPv6 addresses (at {other})",
        "1280",
    ),
    Wrong(
        "an mss over the mtu",
        interface("mtu: ¤1400, mss: §1361"),
        "t/s: an mss of 1361 is over 1360, the mtu (at {other}) less IP and TCP headers",
    ),
    Wrong(
        "an IPv6 mss over the mtu",
        interface("mtu: ¤1400, mss: §1341, address: '2001:db8::1/64'"),
        "t/s: an mss of 1341 is over 1340, the mtu (at {other}) less IP and TCP headers",
    ),
    Wrong(
        "routes while down",
        interface("up: ¤no, routes: §[10.1.0.0/30]"),
        "t/s: an interface that is down (at {other}) carries no routes",
    ),
    Wrong("a route without destination", interface("routes: [§{metric: 5}]"), "t/s: a route without destination"),
    Wrong(
        "a gateway of the other version",
        interface("address: 10.1.0.1/30, routes: [{to: '2001:db8::/64', via: §10.1.0.2}]"),
        "t/s: the gateway 10.1.0.2 and 2001:db8::/64 are of different IP versions",
    ),
    Wrong(
        "a gateway out of reach",
        interface("address: 10.1.0.1/30, routes: [{to: 10.2.0.0/16, via: §10.9.0.2}]"),
        "t/s: the gateway 10.9.0.2 is in no prefix of the interface's addresses",
    ),
    Wrong(
        "a gateway that is us",
        interface("address: 10.1.0.1/30, routes: [{to: 10.2.0.0/16, via: §10.1.0.1}]"),
        "t/s: the gateway 10.1.0.1 is the interface's own address",
    ),
    Wrong(
        "the peer's address inside",
        interface("address: §10.0.0.2/32"),
        "t/s: 10.0.0.2 is the address of the tunnel's peer",
    ),
]

CONFLICTS = [
    Wrong(
        "tunnel ids",
        two("remote: 10.0.0.2, ids: ¤7/1", "remote: 10.0.0.3, ids: §7/2"),
        "b: the local tunnel id 7 is taken by a at {other}",
        "before the slash",
    ),
    Wrong(
        "local session ids",
        tunnel("remote: 10.0.0.2, ids: 1", "a: {ids: ¤5/1, interface: i}, b: {ids: §5/2, interface: j}"),
        "t/b: the local session id 5 is taken by t/a at {other}",
        "ids of its own",
    ),
    Wrong(
        "peer session ids",
        tunnel("remote: 10.0.0.2, ids: 1", "a: {ids: ¤5/1, interface: i}, b: {ids: §6/1, interface: j}"),
        "t/b: the peer session id 1 is taken by t/a at {other}",
    ),
    Wrong(
        "session ids on the host",
        "tunnels:\n"
        "  a: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, encapsulation: udp, sessions: {s: {ids: ¤5, interface: i}}}\n"
        "  b: {local: 10.0.0.1, remote: 10.0.0.3, ids: 2, sessions: {s: {ids: §5, interface: j}}}\n",
        "b/s: the local session id 5 is taken by a/s at {other}",
        "unique per host",
    ),
    Wrong(
        "reqids",
        two(
            f"remote: 10.0.0.2, ids: 1, ipsec: {{reqid: ¤9, {KEY}}}",
            f"remote: 10.0.0.3, ids: 2, ipsec: {{reqid: §9, {KEY}}}",
        ),
        "b: the reqid 0x9 is taken by a at {other}",
        "leave reqid out",
    ),
    Wrong(
        "a reqid that another follows to",
        two(
            f"remote: 10.0.0.2, ids: ¤1, ipsec: {{{KEY}}}",
            f"remote: 10.0.0.3, ids: 2, ipsec: {{reqid: §0x6b6c0001, {KEY}}}",
        ),
        "b: the reqid 0x6b6c0001 is taken by a at {other}",
    ),
    Wrong(
        "UDP endpoints",
        two(
            "encapsulation: udp, remote: 10.0.0.2, ids: 1, ports: ¤1701/1",
            "encapsulation: udp, remote: 10.0.0.3, ids: 2, ports: §1701/2",
        ),
        "b: the local address 10.0.0.1 port 1701 is taken by a at {other}",
        "as in ports: 20001/1701",
    ),
    Wrong(
        "a UDP port for L2TP and ESP",
        two(
            "encapsulation: udp, remote: 10.0.0.2, ids: 1, ports: ¤4500/1",
            f"remote: 10.0.0.3, ids: 2, ipsec: {{nat_traversal: §4500, {KEY}}}",
        ),
        "b: the port 4500 can't serve both L2TP and ESP in UDP; see a at {other}",
    ),
    Wrong(
        "two protected tunnels between two ends",
        two(f"remote: ¤10.0.0.2, ids: 1, ipsec: {{{KEY}}}", f"remote: §10.0.0.2, ids: 2, ipsec: {{{KEY}}}"),
        "b: a second protected tunnel over ip from 10.0.0.1 to 10.0.0.2, beside a at {other}",
        "one tunnel with several sessions",
    ),
    Wrong(
        "a clear tunnel beside a protected one",
        two(f"remote: ¤10.0.0.2, ids: 1, ipsec: {{{KEY}}}", "remote: §10.0.0.2, ids: 2"),
        "b: this tunnel is clear, and to the same peer 10.0.0.2 there is the protected a at {other}",
        "protect both",
    ),
    Wrong(
        "a protected tunnel beside a clear one",
        two("remote: ¤10.0.0.2, ids: 1", f"remote: §10.0.0.2, ids: 2, ipsec: {{{KEY}}}"),
        "b: this tunnel is protected, and to the same peer 10.0.0.2 there is the clear a at {other}",
    ),
    Wrong(
        "a clear tunnel beside a protected one over UDP",
        two(
            f"local: 10.0.0.1, remote: ¤10.0.0.2, ids: 1, ipsec: {{{KEY}}}",
            "local: 10.0.0.9, remote: §10.0.0.2, ids: 2",
            "encapsulation: udp",
        ),
        "b: this tunnel is clear, and to the same peer 10.0.0.2 there is the protected a at {other}",
    ),
    Wrong(
        "interface names",
        two_interfaces("name: ¤i", "name: §i"),
        "t/b: the interface name 'i' is taken by t/a at {other}",
        "a name of its own",
    ),
    Wrong(
        "interface names where they live",
        "tunnels:\n"
        "  a: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, sessions: {s: {interface: {name: ¤i, netns: x}}}}\n"
        "  b: {local: 10.0.0.1, remote: 10.0.0.2, ids: 2, netns: x, sessions: {s: {interface: §i}}}\n",
        "b/s: the interface name 'i' is taken in the namespace x by a/s at {other}",
    ),
    Wrong(
        "an interface called like a bridge",
        two_interfaces("name: i, bridge: ¤j", "name: §j"),
        "t/b: 'j' can't be both a session's interface and a bridge or VRF; see t/a at {other}",
    ),
    Wrong(
        "a bridge called like an interface",
        two_interfaces("name: ¤i", "name: j, vrf: §i"),
        "t/b: 'i' can't be both a session's interface and a bridge or VRF; see t/a at {other}",
    ),
    Wrong(
        "addresses",
        two_interfaces("name: i, address: ¤10.1.0.1/30", "name: j, address: §10.1.0.1/24"),
        "t/b: the address 10.1.0.1 is taken by t/a at {other}",
    ),
    Wrong(
        "routes",
        two_interfaces("name: i, routes: [¤10.1.0.0/16]", "name: j, routes: [§10.1.0.0/16]"),
        "t/b: the route to 10.1.0.0/16 leads elsewhere for t/a at {other}",
        "metric",
    ),
    Wrong(
        "routes to a peer",
        two("remote: 10.0.0.2, ids: 1, route: ¤10.0.0.8", "remote: 10.0.0.2, ids: 2, route: §10.0.0.9"),
        "b: the route to 10.0.0.2/32 leads elsewhere for a at {other}",
    ),
    Wrong(
        "MAC addresses in a bridge",
        two_interfaces("name: i, bridge: b, mac: ¤02:00:00:00:00:01", "name: j, bridge: b, mac: §02:00:00:00:00:01"),
        "t/b: the MAC address 02:00:00:00:00:01 is taken in the bridge b by t/a at {other}",
    ),
    Wrong(
        "a tunnel and a set of one name",
        "tunnels:\n  ¤t1: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, sessions: {s: {interface: i}}}\n"
        "sets:\n  §t{n}:\n    range: 1\n    local: 10.0.0.1\n    remote: 10.0.0.3\n    ids: 2\n"
        "    sessions: {s: {interface: j}}\n",
        "t1: the name is taken by t1 at {other} (with n=1)",
    ),
]

SETS = [
    Wrong(
        "no range",
        "sets: {§'t{n}': {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, sessions: {s: {interface: i}}}}",
        "'t{n}': range is missing",
        "range: 1-500",
    ),
    Wrong(
        "a range that counts down",
        one_of_set('remote: 10.0.1.2\n    ids: "{n}"').replace("1-3", "§3-1"),
        "range: '3-1' counts down",
        "write 1-3",
    ),
    Wrong(
        "a number twice",
        one_of_set('remote: 10.0.1.2\n    ids: "{n}"').replace("1-3", "§1-3,2"),
        "range: '1-3,2' holds 2 twice",
    ),
    Wrong(
        "no range at all",
        one_of_set('remote: 10.0.1.2\n    ids: "{n}"').replace("1-3", "§all"),
        "range: 'all' is not a range: 'all' is not a whole number",
    ),
    Wrong(
        "a huge range",
        one_of_set('remote: 10.0.1.2\n    ids: "{n}"').replace("1-3", "§1-100001"),
        "range: '1-100001' has 100,001 numbers: a set has at most 100,000 tunnels",
    ),
    Wrong(
        "a range that varies",
        one_of_set('remote: 10.0.1.2\n    ids: "{n}"').replace("1-3", '§"1-{n}"'),
        "range: it says what n is, and can't depend on n",
    ),
    Wrong("a name without n", family("§same"), "same: all 2 tunnels of the set would have this name", "same-{n}"),
    Wrong(
        "one name twice", family("§t{n // 2}").replace("1-2", "2-3"), "t1: the name is taken by t1 at {self} (with n=3)"
    ),
    Wrong("a name that is none", family("§t{n}/x"), "the name: 't1/x' is not a name (with n=1 and 1 more)"),
    Wrong(
        "an unknown name",
        one_of_set('remote: §10.0.1.{m}\n    ids: "{n}"'),
        "remote: '10.0.1.{m}': there is no 'm' here",
        "the only name is n",
    ),
    Wrong(
        "true division",
        one_of_set('remote: §10.0.1.{n / 2}\n    ids: "{n}"'),
        "remote: '10.0.1.{n / 2}': did not expect '/'",
        "write // for division",
    ),
    Wrong(
        "power", one_of_set('remote: §10.0.1.{2 ** n}\n    ids: "{n}"'), "remote: '10.0.1.{2 ** n}': did not expect '*'"
    ),
    Wrong(
        "half an expression",
        one_of_set('remote: §10.0.1.{n +}\n    ids: "{n}"'),
        "remote: '10.0.1.{n +}': something is missing at the end",
    ),
    Wrong(
        "two expressions in one",
        one_of_set('remote: §10.0.1.{n n}\n    ids: "{n}"'),
        "remote: '10.0.1.{n n}': did not expect 'n'",
    ),
    Wrong(
        "an open parenthesis",
        one_of_set('remote: §10.0.1.{(n}\n    ids: "{n}"'),
        "remote: '10.0.1.{(n}': a parenthesis is not closed",
    ),
    Wrong(
        "nothing in braces",
        one_of_set('remote: §10.0.1.{}\n    ids: "{n}"'),
        "remote: '10.0.1.{}': there is nothing between the braces",
    ),
    Wrong(
        "an open brace",
        one_of_set('remote: §"10.0.1.{n"\n    ids: "{n}"'),
        "remote: '10.0.1.{n' has a lonely '{'",
        "write {{",
    ),
    Wrong(
        "an unknown format",
        one_of_set('remote: §10.0.1.{n:s}\n    ids: "{n}"'),
        "remote: '10.0.1.{n:s}': the format 's' is unknown",
        "{n:04}",
    ),
    Wrong(
        "nested parentheses",
        one_of_set(f'remote: §10.0.1.{{{"(" * 17}n{")" * 17}}}\n    ids: "{{n}}"'),
        f"remote: '10.0.1.{{{'(' * 17}n{')' * 17}}}': nested deeper than 16 levels",
    ),
    Wrong(
        "division by zero",
        one_of_set('remote: §10.0.1.{8 // (n - 2)}\n    ids: "{n}"').replace("1-3", "2"),
        "remote: '10.0.1.{8 // (n - 2)}' divides by zero (with n=2)",
    ),
    Wrong(
        "an overlong result",
        one_of_set('remote: §"10.{n:99}{n:99}{n:99}"\n    ids: "{n}"'),
        "remote: '10.{n:99}{n:99}{n:99}' becomes longer than 256 characters (with n=1 and 2 more)",
    ),
    Wrong(
        "a value that is wrong for some",
        one_of_set('remote: §10.0.1.{n + 253}\n    ids: "{n}"'),
        "remote: '10.0.1.256' is not an IPv4 or IPv6 address (with n=3)",
    ),
    Wrong(
        "ids that collide",
        one_of_set("remote: 10.0.1.{n}\n    ids: §1", '{s: {ids: "{n}", interface: "i{n}"}}'),
        "t2: the local tunnel id 1 is taken by t1 at {self} (with n=2 and 1 more)",
    ),
    Wrong(
        "addresses that collide",
        one_of_set(
            'remote: 10.0.1.{n}\n    ids: "{n}"', '{s: {interface: {name: "i{n}", address: §"10.1.{n // 3}.1/30"}}}'
        ),
        "t2/s: the address 10.1.0.1 is taken by t1/s at {self} (with n=2)",
    ),
    Wrong(
        "a missing key in a set",
        one_of_set("ids: 1", '{s: {ids: "{n}", interface: "i{n}"}}').replace("1-3", "1").replace("  t{n}", "  §t{n}"),
        "t1: remote is missing (with n=1)",
    ),
]

ALL = [*YAML, *STRUCTURE, *SCALARS, *MEANING, *CONFLICTS, *SETS]
