"""Wrong configurations of calls, one per kind of error. For the marks see `unit.config.wrong`."""

from unit.config.wrong import Wrong

USERS = "users: /u\n"


def lns(keys: str, rest: str = USERS) -> str:
    """An LNS profile that is right but for `keys`."""
    return f"{rest}lns: {{a: {{{keys}}}}}\n"


def two(first: str, second: str, kind: str = "lns") -> str:
    """Two profiles or calls, one per line, right but for their keys."""
    return f"{USERS}{kind}:\n  a: {{{first}}}\n  b: {{{second}}}\n"


def lac(keys: str, rest: str = USERS) -> str:
    """A call that is right but for `keys`."""
    return f"{rest}lac: {{a: {{remote: 10.0.0.2, user: joe, {keys}}}}}\n"


def pool(value: str) -> str:
    """A pool."""
    return f"pools: {{p: {value}}}\n"


TUNNEL = (
    "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, encapsulation: udp, sessions: {s: {interface: i}}%s}}\n"
)
"""A tunnel over UDP at 10.0.0.1:1701."""

SCALARS = [
    Wrong("no list of profiles", "lns: §[a]\n", "lns: a list where a mapping from names belongs", "write NAME: {lns}"),
    Wrong("a profile's name", "lns: {§a/b: {ppp: {pool: 10.9.0.0/24}}}\nusers: /u\n", "'a/b' is not a name"),
    Wrong(
        "a key of a call on a profile",
        lns("§local_port: 1702"),
        "unknown key 'local_port' in lns",
        "local_port belongs in lac",
    ),
    Wrong("a mistyped part", lns("§contol: {}"), "unknown key 'contol' in lns", "did you mean control?"),
    Wrong(
        "an option of xl2tpd",
        lns("control: {§tunnel_rws: 8}"),
        "unknown key 'tunnel_rws' in control",
        "did you mean window?",
    ),
    Wrong(
        "a host name to listen at",
        lns("listen: §lns.example.net"),
        "listen: 'lns.example.net' is not an IPv4 or IPv6 address",
        "names are not looked up",
    ),
    Wrong("a port of 0", lns("listen: §10.0.0.1:0"), "listen: '10.0.0.1:0': the port '0' is not from 1 to 65535"),
    Wrong(
        "a peer with host bits",
        lns("peers: §10.1.0.1/24"),
        "peers: '10.1.0.1/24' has bits set beyond its prefix",
        "write 10.1.0.0/24",
    ),
    Wrong(
        "a pattern for hosts",
        lns("host_names: [§'branch-[0-9]']"),
        "host_names: 'branch-[0-9]' is not a pattern for host names",
        "the wildcards * (any text) and ? (one character)",
    ),
    Wrong(
        "an unknown method",
        lns("ppp: {auth: [chap, §ms-chap-v2]}"),
        "auth: 'ms-chap-v2' is none of eap-mschapv2, mschapv2, eap-md5, chap, pap, none",
        "did you mean mschapv2?",
    ),
    Wrong(
        "a broken method",
        lns("ppp: {auth: §mschap}"),
        "auth: 'mschap' is refused: MS-CHAP version 1 can be broken in hours; use eap-mschapv2 or mschapv2",
    ),
    Wrong("a method that is none", lns("ppp: {auth: §kerberos}"), "auth: 'kerberos' is none of"
          " eap-mschapv2, mschapv2, eap-md5, chap, pap, none"),
    Wrong("hello as a word", lns("control: {hello: §often}"), "hello: 'often' is not a time", "500ms, 10s, 5m, 1h"),
    Wrong("a long hello", lns("control: {hello: §2h}"), "hello: '2h' is not from 1 to 3600 s"),
    Wrong(
        "a window of none", lns("control: {window: §0}"), "window: '0' is not from 1 to 4096 messages"
    ),
    Wrong(
        "a secret inline",
        lns("control: {§secret: hunter2}"),
        "secret: a secret never stands in the configuration",
        "put it into a file that only root can read",
    ),
    Wrong(
        "a password inline",
        lac("§password: hunter2"),
        "password: a secret never stands in the configuration",
        "name that file",
    ),
    Wrong(
        "a secret for a path",
        lns("control: {secret_file: §hunter2}"),
        "secret_file: the value is not an absolute path",
        "secrets live in files",
    ),
    Wrong(
        "a directory of users", "users: §/etc/ppp/\n", "users: '/etc/ppp/' names a directory", "name the file in it"
    ),
    Wrong(
        "a program without path",
        lns("hooks: {up: §./up}"),
        "up: './up' is not an absolute path",
        "programs are not searched for",
    ),
    Wrong("a rate", lns("limits: {setup_rate: §fast}"), "setup_rate: 'fast' is not a rate", "50/s"),
    Wrong(
        "static keys on a profile",
        lns("ipsec: {§key_file: /k, ike: {psk_file: /p}}"),
        "unknown key 'key_file' in lns ipsec",
        "static keys can't serve peers that are not known beforehand: ike: {psk_file: /etc/kl2tp/ike.psk}",
    ),
    Wrong(
        "ipsec on a call", lac("ipsec: §on"), "ipsec: only 'off' may stand here in place of a mapping", "write the keys"
    ),
    Wrong("a pool that counts down", pool("§10.9.0.9-10.9.0.1"), "p: '10.9.0.9-10.9.0.1' counts down",
          "write 10.9.0.1-10.9.0.9"),
    Wrong("a pool of both versions", pool("§'10.9.0.1-2001:db8::1'"),
          "p: '10.9.0.1-2001:db8::1' begins with IPv4 and ends with IPv6"),
    Wrong("a pool of no addresses", pool("§everything-else"), "p: 'everything' is not an IPv4 or IPv6 address",
          "10.9.0.0/24"),
    Wrong("a pool of multicast addresses", pool("§224.0.0.0/24"), "p: '224.0.0.0/24' is a multicast address"),
    Wrong("a pool called like addresses", "pools: {§10.9.0.0/24: 10.9.0.0/24}\n",
          "'10.9.0.0/24' is not a name for a pool", "customers: 10.9.0.0/20"),
    Wrong("two numbers in a name", lns("interface: §'l{n}t{n}'"),
          "interface: 'l{n}t{n}' is not a pattern for interface names", "l2tp{n}"),
    Wrong("another letter in a name", lns("interface: §'l2tp{i}'"),
          "interface: 'l2tp{i}' is not a pattern for interface names"),
    Wrong("a long pattern", lns("interface: §'concentrator{n}'"),
          "interface: 'concentrator{n}' leaves no room for numbers: a network device's name has at most 15 characters",
          "at most 10 characters beside {n}"),
    Wrong("a server by name", "users: /u\nlac: {a: {remote: §lns.example.net, user: joe}}\n",
          "remote: 'lns.example.net' is not an IPv4 or IPv6 address", "names are not looked up"),
    Wrong("a user of control characters", lac('called_number: "1", password_file: /p').replace("joe", '§"a\\tb"'),
          "user: the value is empty or has control characters in it"),
]  # fmt: skip

MEANING = [
    Wrong(
        "a login without users",
        lns("ppp: {auth: §[mschapv2], pool: 10.9.0.0/24}", ""),
        "a: nobody can log in: auth is mschapv2, and users names no file",
        "users: /etc/kl2tp/users.yaml",
    ),
    Wrong(
        "the default login without users",
        "lns:\n  §a:\n    listen: 10.0.0.1\n",
        "a: nobody can log in: auth is mschapv2, chap, and users names no file",
        "or auth: none",
    ),
    Wrong(
        "no login and no pool",
        lns("ppp: {auth: §none}"),
        "a: nobody would get an IPv4 address: without login there are no users with their own, and no pool",
        "pool: 10.9.0.0/20",
    ),
    Wrong("none among others", lns("ppp: {auth: §[chap, none]}"), "a: auth: none stands alone: with it everybody is"
          " let in", "remove none"),
    Wrong("a method twice", lns("ppp: {auth: §[chap, pap, chap]}"), "a: auth names chap twice"),
    Wrong(
        "a pool that is not there",
        lns("ppp: {pool: §customers}", "users: /u\npools: {others: 10.9.0.0/24}\n"),
        "a: there is no pool 'customers'",
        "the pools are others",
    ),
    Wrong("no pools at all", lns("ppp: {pool: §customers}"), "a: there is no pool 'customers'",
          "pools: {customers: 10.9.0.0/20}"),
    Wrong("an IPv4 pool for IPv6", lns("ppp: {pool6: §10.9.0.0/24}"),
          "a: the pool 10.9.0.0/24 is of IPv4 addresses", "pool: 10.9.0.0/24"),
    Wrong("an IPv6 pool for IPv4", lns("ppp: {pool: §p}", "users: /u\npools: {p: '2001:db8::/48'}\n"),
          "a: the pool p is of IPv6 addresses", "pool6: p"),
    Wrong(
        "nothing carried",
        lns("ppp: {ipv4: §no}"),
        "a: calls that carry neither IPv4 nor IPv6 carry nothing",
        "ipv6: true",
    ),
    Wrong(
        "a pool for nothing",
        lns("ppp: {ipv4: ¤no, ipv6: yes, pool: §10.9.0.0/24}"),
        "a: pool is 10.9.0.0/24, but ipv4 is false (at {other})",
    ),
    Wrong(
        "prefixes without IPv6",
        lns("ppp: {ipv6: ¤no, pool6: §'2001:db8::/48'}"),
        "a: pool6 is 2001:db8::/48, but ipv6 is false (at {other})",
    ),
    Wrong("three name servers", lns("ppp: {dns: §[10.0.0.1, 10.0.0.2, 10.0.0.3]}"),
          "a: dns names 3 IPv4 servers: there is room for 2", "the two that are nearest"),
    Wrong("a name server of the other version", lns("ppp: {dns: §'2001:db8::1'}"),
          "a: dns 2001:db8::1 is IPv6, which the calls don't carry", "ipv6: true"),
    Wrong("an IPv6 WINS server", lns("ppp: {nbns: §'2001:db8::1'}"), "nbns: '2001:db8::1' is an IPv6 address"),
    Wrong("a small mru for IPv6", lns("ppp: {ipv6: yes, mru: §1200}"), "a: an mru of 1200 is impossible with IPv6"),
    Wrong("an mss over the mtu of calls", lns("interface: {mtu: ¤1400, mss: §1361}"),
          "a: an mss of 1361 is over 1360, the mtu (at {other}) less IP and TCP headers", "mss: auto"),
    Wrong("hiding without secret", lns("control: {hide_avps: §yes}"), "a: hide_avps needs a secret",
          "secret_file: /etc/kl2tp/l2tp-secrets"),
    Wrong("a challenge without secret", lns("control: {challenge: §yes}"), "a: challenge needs a secret"),
    Wrong("a first time-out over the cap", lns("control: {retransmit: §9s}"),
          "a: the first retransmission after 9 s is over the cap", "cap is 8 s"),
    Wrong("calls reordered without numbers", lns("reorder: §50ms"),
          "a: reorder needs sequencing: packets without numbers have no order", "sequencing: both"),
    Wrong("one name for all calls", lns("interface: §office"),
          "a: all calls would have an interface called 'office'", "office{n}"),
    Wrong("a time-out of no program", lns("hooks: {timeout: §5s}"), "a: hooks has a timeout, but no program"),
    Wrong("no server", "users: /u\nlac: {§a: {user: joe}}\n", "a: remote is missing", "e.g. remote: [198.51.100.1"),
    Wrong("a server of the other version", lac("local: ¤'2001:db8::1'").replace("10.0.0.2", "§10.0.0.2"),
          "a: remote 10.0.0.2 is IPv4, local is 2001:db8::1 (at {other})", "one IP version"),
    Wrong("a call to ourselves", lac("local: ¤10.0.0.2").replace("remote: 10.0.0.2", "remote: §10.0.0.2"),
          "a: remote is 10.0.0.2, which is local as well (at {other})"),
    Wrong("a user without password", lac("persist: no", "").replace("joe", "§joe"),
          "a: there is no password for 'joe': no password_file, and users names no file", "password_file:"),
    Wrong("a password without user", "lac: {a: {remote: 10.0.0.2, password_file: §/p}}\n",
          "a: a password, but no user", "user: NAME"),
    Wrong("a login without user", "lac: {a: {remote: 10.0.0.2, ppp: {auth: §chap}}}\n",
          "a: auth is chap, but there is no user", "user: NAME"),
    Wrong("a pool on a call", lac("ppp: {pool: §10.9.0.0/24}"),
          "a: pool means nothing on a call that we place: the peer says what we get", "or set outgoing: true"),
    Wrong("a first wait over the longest", lac("retry: {first: §2m, cap: ¤1m}"),
          "a: the first wait of 120 s is over the longest, 60 s (at {other})"),
    Wrong("a gateway of a call", lac("interface: {routes: [{to: 10.0.0.0/8, §via: 10.0.0.9}]}"),
          "unknown key 'via' in call route", "via belongs in interface route or route"),
    Wrong("a pool without ranges", pool("{}").replace("p:", "§p:"), "p: the pool has no ranges",
          "ranges: 10.9.0.0/20"),
    Wrong("nothing left of a pool", pool("{ranges: 10.9.0.0/30, except: §10.9.0.0/24}"),
          "p: nothing is left of the pool"),
    Wrong("an exception elsewhere", pool("{ranges: 10.9.0.0/24, except: §10.8.0.1}"),
          "p: except 10.8.0.1 is not in the pool", "remove it"),
    Wrong("two versions in a pool", pool("[¤10.9.0.0/24, §'2001:db8::/48']"),
          "p: 2001:db8::/48 is IPv6, and 10.9.0.0/24 (at {other}) IPv4", "make two pools"),
    Wrong("a prefix length for IPv4", pool("{ranges: 10.9.0.0/24, prefix_length: §64}"),
          "p: prefix_length means nothing in an IPv4 pool", "remove it"),
    Wrong("prefixes of less than one", pool("§'2001:db8::/72'"),
          "p: 2001:db8::/72 is smaller than the /64 that one call gets"),
    Wrong("prefixes cut in two", pool("§'2001:db8::1-2001:db8::ff'"),
          "p: 2001:db8::1-2001:db8::ff does not begin and end with prefixes of length 64"),
]  # fmt: skip

CONFLICTS = [
    Wrong(
        "two profiles for everybody",
        two("ppp: {pool: 10.9.0.0/24}", "ppp: {pool: 10.9.1.0/24}").replace("a:", "¤a:").replace("b:", "§b:"),
        "b: which profile a peer gets is open: at port 1701 of every address there is also a at {other}",
        "peers or host_names of its own",
    ),
    Wrong(
        "two profiles at one address",
        two("listen: ¤10.0.0.1", "listen: §[10.0.0.9, 10.0.0.1]"),
        "b: which profile a peer gets is open: at 10.0.0.1 port 1701 there is also a at {other}",
    ),
    Wrong(
        "two profiles for the same peers",
        two("peers: ¤10.1.0.0/16, listen: 10.0.0.1", "listen: 10.0.0.1, peers: §[10.2.0.0/16, 10.1.0.0/16]"),
        "b: which profile a peer gets is open: at 10.0.0.1 port 1701 for 10.1.0.0/16 there is also a at {other}",
    ),
    Wrong(
        "two profiles for the same hosts",
        two("host_names: ¤'x*'", "host_name: §'x*'"),
        "b: which profile a peer gets is open: at port 1701 of every address and hosts called x* there is also"
        " a at {other}",
    ),
    Wrong(
        "a profile at a tunnel's port",
        TUNNEL.replace("10.0.0.1,", "¤10.0.0.1,") % "" + lns("listen: §10.0.0.1"),
        "a: 10.0.0.1, port 1701, is taken by a tunnel: t at {other}",
        "ports: 20001/1701",
    ),
    Wrong(
        "a profile everywhere and a tunnel's port",
        TUNNEL % ", ports: ¤1701/1701" + "users: /u\nlns: {§a: {ppp: {pool: 10.9.0.0/24}}}\n",
        "a: every address, port 1701, is taken by a tunnel: t at {other}",
    ),
    Wrong(
        "a call from a tunnel's port",
        TUNNEL % ", ports: ¤1702/1701" + lac("local: 10.0.0.1, local_port: §1702").replace("10.0.0.2", "10.0.0.3"),
        "a: 10.0.0.1, port 1702, is taken by a tunnel: t at {other}",
    ),
    Wrong(
        "a profile at the port of ESP",
        "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, ipsec: {key_file: /k, nat_traversal: ¤1701},"
        " sessions: {s: {interface: i}}}}\n" + lns("listen: §10.0.0.1"),
        "a: 10.0.0.1, port 1701, is taken by ESP in UDP: t at {other}",
    ),
    Wrong(
        "pools that overlap",
        "pools:\n  ¤a: 10.9.0.0/24\n  §b: [10.8.0.0/24, 10.9.0.128/25]\n",
        "b: 10.9.0.129-10.9.0.254 is in the pool a at {other} too",
        "in one pool only",
    ),
    Wrong(
        "a pool that is written twice in two ways",
        "pools:\n  ¤p: 10.9.0.0/24\n" + two("ppp: {pool: §10.9.0.7}", "listen: 10.0.0.1, ppp: {pool: p}"),
        "10.9.0.7: 10.9.0.7 is in the pool p at {other} too",
    ),
    Wrong(
        "prefixes that overlap",
        "pools:\n  ¤a: {ranges: '2001:db8:1::/48', prefix_length: 56}\n  §b: '2001:db8:1:5::/64'\n",
        "b: 2001:db8:1:5::-2001:db8:1:5:ffff:ffff:ffff:ffff is in the pool a at {other} too",
    ),
    Wrong(
        "a pool of nothing but us",
        lns("ppp: {local: 10.9.0.1, pool: §10.9.0.1}"),
        "10.9.0.1: the pool has no address but our own (10.9.0.1)",
        "add addresses for peers",
    ),
    Wrong(
        "calls with a tunnel's interface",
        TUNNEL.replace("interface: i", "interface: ¤l2tp7") % ", ports: 20001/1701" + lns("interface: §'l2tp{n}'"),
        "a: interfaces called l2tp{n} would sooner or later be 'l2tp7', which is t/s at {other}",
        "choose another name",
    ),
    Wrong(
        "calls with a VRF's name",
        two("interface: {name: 'x{n}', vrf: ¤v1}", "listen: 10.0.0.1, interface: §'v{n}'"),
        "b: interfaces called v{n} would sooner or later be 'v1', which is a at {other}",
    ),
    Wrong(
        "calls of one name",
        two("remote: 10.0.0.2, user: joe, interface: ¤x", "remote: 10.0.0.2, user: joe, interface: §x", "lac"),
        "b: the interface name 'x' is taken by a at {other}",
    ),
    Wrong(
        "one way for two calls",
        two("remote: 10.0.0.2, user: joe, interface: {name: x, routes: ¤10.1.0.0/16}",
            "remote: 10.0.0.3, user: joe, interface: {routes: §10.1.0.0/16}", "lac"),
        "b: the route to 10.1.0.0/16 leads elsewhere for a at {other}",
        "another metric",
    ),
    Wrong("a profile twice", "users: /u\nlns:\n  ¤a: {listen: 10.0.0.1}\n  §a: {listen: 10.0.0.2}\n",
          "a: the name is taken in lns at {other}", "unique over all files"),
]  # fmt: skip

CALLS = [*SCALARS, *MEANING, *CONFLICTS]
