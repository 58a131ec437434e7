"""The part of the table of keys that is about calls: lns, lac, pools, users."""

from kl2tp.config import call_scalars, scalar
from kl2tp.config.ike_schema import IKE, LAC_IPSEC, LNS_IPSEC
from kl2tp.config.key import Key, Section, inheritable, section

# fmt: off

RETRANSMIT = section(
    "retransmit", "When a control message is sent again, RFC 2661 5.8. Short form: the first time-out.",
    Key("first", call_scalars.seconds(0.1, 60), "After what time first; it doubles with each further one.",
        eg="500ms", default="1s", fills=("ControlSpec.retransmit_first",)),
    Key("cap", call_scalars.seconds(0.1, 300), "The time stops doubling here.",
        eg="16s", default="8s", fills=("ControlSpec.retransmit_cap",)),
    Key("tries", call_scalars.TRIES, "After so many the peer is taken for dead.",
        eg="8", default="5", fills=("ControlSpec.retransmit_tries",)),
    short=Key("first", call_scalars.seconds(0.1, 60), "The first time-out."),
)

CONTROL = section(
    "control", "How the L2TP control connection behaves.",
    Key("host_name", call_scalars.HOST_NAME, "The name that we tell the peer (Host Name AVP).",
        eg="lns1", default="the host's", fills=("ControlSpec.host_name",)),
    Key("secret_file", call_scalars.OPTIONAL_SECRET_FILE,
        "File with the secret that both ends of the tunnel know: one line, or lines as in xl2tpd's l2tp-secrets.",
        eg="/etc/kl2tp/l2tp-secrets", default="none", fills=("ControlSpec.secret_file",)),
    Key("challenge", scalar.BOOLEAN, "Whether the peer must prove that it knows the secret.",
        eg="false", default="true, if there is a secret", fills=("ControlSpec.challenge",)),
    Key("hide_avps", scalar.BOOLEAN, "Whether what we tell the peer is hidden by means of the secret (RFC 2661 4.3).",
        eg="true", default="false", fills=("ControlSpec.hide_avps",)),
    Key("window", call_scalars.CONTROL_WINDOW, "How many messages the peer may send ahead.",
        eg="64", default="32", fills=("ControlSpec.window",)),
    Key("hello", call_scalars.never(call_scalars.seconds(1, 3600)),
        "After so long without a packet from the peer it is asked whether it lives.",
        eg="30s", default="60s", fills=("ControlSpec.hello_interval",)),
    Key("retransmit", None, "When a message is sent again.",
        eg="{first: 1s, cap: 16s, tries: 8}", section=RETRANSMIT),
    Key("setup_timeout", call_scalars.seconds(1, 600), "How long a tunnel or a call may take to come up.",
        eg="10s", default="30s", fills=("ControlSpec.setup_timeout",)),
    Key("empty_timeout", call_scalars.never(call_scalars.seconds(1, 86_400)), "How long a tunnel without calls stays.",
        eg="never", default="60s", fills=("ControlSpec.empty_timeout",)),
)

ECHO = section(
    "echo", "LCP echo requests, which find out whether the peer lives. Short form: their interval.",
    Key("interval", call_scalars.never(call_scalars.seconds(1, 3600)), "Time between two requests.",
        eg="10s", default="30s", fills=("PppSpec.echo_interval",)),
    Key("failures", call_scalars.TRIES, "So many without an answer end the call.",
        eg="3", default="4", fills=("PppSpec.echo_failures",)),
    short=Key("interval", call_scalars.never(call_scalars.seconds(1, 3600)), "The interval; off: none are sent."),
)

PPP = section(
    "ppp", "How PPP behaves on the calls.",
    Key("auth", call_scalars.AUTH,
        "One method or a list, the preferred first. An LNS demands one of them from the peer, a LAC answers to "
        "those. none: nobody need log in.",
        eg="[eap-mschapv2, mschapv2]", default="[mschapv2, chap]", many=True, fills=("PppSpec.auth",)),
    Key("name", call_scalars.TEXT,
        "Who we say we are; the server column of chap-secrets must match it.",
        eg="l2tpd", default="the host name of control", fills=("PppSpec.name",)),
    Key("local", call_scalars.IPV4, "Our IPv4 address inside the calls.",
        eg="10.9.0.1", default="LNS: the address that was called; LAC: the peer's choice", alias="local_address",
        fills=("PppSpec.local_address",)),
    Key("pool", call_scalars.POOL,
        "Where peers without an address of their own get one: the name of a pool, or the addresses themselves.",
        eg="10.9.0.0/20", default="none", fills=("PppSpec.pool",)),
    Key("pool6", call_scalars.POOL, "The same for IPv6: each call gets a prefix, which is advertised to the peer.",
        eg="2001:db8:100::/48", default="none", fills=("PppSpec.pool6",)),
    Key("ipv4", scalar.BOOLEAN, "Whether calls carry IPv4.", eg="false", default="true", fills=("PppSpec.ipv4",)),
    Key("ipv6", scalar.BOOLEAN, "Whether calls carry IPv6.",
        eg="true", default="false; true with pool6", fills=("PppSpec.ipv6",)),
    Key("dns", scalar.GATEWAY, "Name servers for the peer: at most two of each IP version.",
        eg="[10.9.0.1, 2001:db8::53]", default="none", many=True, fills=("PppSpec.dns",)),
    Key("nbns", call_scalars.IPV4, "NetBIOS name servers (WINS) for the peer, at most two.",
        eg="10.9.0.2", default="none", many=True, fills=("PppSpec.nbns",)),
    Key("mru", call_scalars.MRU, "The largest packet that we ask the peer to send. auto: what fits into the path.",
        eg="1400", default="auto", fills=("PppSpec.mru",)),
    Key("path_mtu", scalar.PATH_MTU, "MTU of the path to the peers, bytes.",
        eg="1492", default="1500", fills=("PppSpec.path_mtu",)),
    Key("echo", None, "Requests that find out whether the peer lives.", eg="{interval: 10s, failures: 3}",
        section=ECHO),
    Key("restart", call_scalars.seconds(0.1, 60), "When a request is sent again (RFC 1661 4.6).",
        eg="1s", default="3s", fills=("PppSpec.restart",)),
    Key("max_configure", call_scalars.TRIES, "Configure-Requests without an answer before we give up.",
        eg="20", default="10", fills=("PppSpec.max_configure",)),
    Key("max_terminate", call_scalars.TRIES, "Terminate-Requests without an answer before we give up.",
        eg="3", default="2", fills=("PppSpec.max_terminate",)),
    Key("max_failure", call_scalars.TRIES, "Configure-Naks before we reject what the peer insists on.",
        eg="10", default="5", fills=("PppSpec.max_failure",)),
    Key("auth_timeout", call_scalars.seconds(1, 600), "How long the login may take.",
        eg="60s", default="30s", fills=("PppSpec.auth_timeout",)),
    Key("rechallenge", call_scalars.never(call_scalars.seconds(1, 86400)),
        "How often peers that are in prove again who they are, by CHAP or EAP.",
        eg="1h", default="off", fills=("PppSpec.rechallenge",)),
)

_DEVICE = (
    Key("mtu", scalar.MTU, "Bytes. auto: what both ends agree on.",
        eg="1400", default="auto", fills=("CallInterfaceSpec.mtu",)),
    Key("mss", scalar.MSS, "Limit for the TCP segments through the device, bytes. auto: from the MTU.",
        eg="1300", default="auto", fills=("CallInterfaceSpec.mss",)),
    Key("vrf", scalar.MASTER, "The VRF that the devices join; it must exist.",
        eg="vrf-blue", default="none", fills=("CallInterfaceSpec.vrf",)),
    Key("netns", scalar.NETNS, "The network namespace that the devices move to; `default` is the daemon's.",
        eg="customers", default="that of the tunnel", fills=("CallInterfaceSpec.netns",)),
)

CALL_ROUTE = section(
    "call route", "A route into the interface of a call. Short form: the prefix alone.",
    Key("to", scalar.DESTINATION, "Where to.", eg="10.2.0.0/16", required=True,
        fills=("RouteSpec.destination", "RouteSpec.prefix_length")),
    Key("metric", scalar.METRIC, "The lower one wins.", eg="100", default="0", fills=("RouteSpec.metric",)),
    Key("table", scalar.TABLE, "Routing table.",
        eg="100", default="main, or that of the VRF", fills=("RouteSpec.table",)),
    short=Key("to", scalar.DESTINATION, "Where to."),
)

LNS_INTERFACE = section(
    "lns interface", "The network devices of the calls that come in. Short form: their names alone.",
    Key("name", call_scalars.PATTERN, "{n} stands for the smallest number that is free.",
        eg="office{n}", default="l2tp{n}", fills=("CallInterfaceSpec.name",)),
    *_DEVICE,
    short=Key("name", call_scalars.PATTERN, "The names."),
)

LAC_INTERFACE = section(
    "lac interface", "The network device of a call that we place. Short form: its name alone.",
    Key("name", call_scalars.PATTERN, "A name, or one with {n} for the smallest number that is free.",
        eg="hq0", default="the name of the call if it is a device's name, or l2tp{n}",
        fills=("CallInterfaceSpec.name",)),
    *_DEVICE,
    Key("routes", None, "Routes into the interface.",
        eg="[10.0.0.0/8]", section=CALL_ROUTE, many=True, fills=("LacSpec.routes",)),
    short=Key("name", call_scalars.PATTERN, "The name."),
)

LIMITS = section(
    "limits", "What one LNS profile takes at most. Whatever is beyond is refused with the reason.",
    Key("tunnels", call_scalars.COUNT, "Tunnels.", eg="1000", default="16384", fills=("LimitsSpec.tunnels",)),
    Key("tunnels_per_peer", call_scalars.COUNT, "Tunnels from one address.",
        eg="10", default="256", fills=("LimitsSpec.tunnels_per_peer",)),
    Key("sessions", call_scalars.SESSIONS, "Calls in all.",
        eg="5000", default="32768", fills=("LimitsSpec.sessions",)),
    Key("sessions_per_tunnel", call_scalars.COUNT, "Calls in one tunnel.",
        eg="1", default="16384", fills=("LimitsSpec.sessions_per_tunnel",)),
    Key("half_open", call_scalars.COUNT, "Tunnels whose peer has not yet proved that its address is its own.",
        eg="100", default="4096", fills=("LimitsSpec.half_open",)),
    Key("setup_rate", call_scalars.RATE, "New calls per second, with bursts of as many.",
        eg="100/s", default="off", fills=("LimitsSpec.setup_rate",)),
)

HOOKS = section(
    "hooks", "Programs that are told of calls, by their environment.",
    Key("up", call_scalars.PROGRAM, "Run when a call is up.",
        eg="/etc/kl2tp/call-up", default="none", fills=("HooksSpec.up",)),
    Key("down", call_scalars.PROGRAM, "Run when it has ended.",
        eg="/etc/kl2tp/call-down", default="none", fills=("HooksSpec.down",)),
    Key("timeout", call_scalars.seconds(0.1, 600), "Then the program is ended.",
        eg="30s", default="10s", fills=("HooksSpec.timeout",)),
)

_CALLS = (
    Key("control", None, "The control connection.", eg="{secret_file: /etc/kl2tp/l2tp-secrets}",
        section=CONTROL, inherited=True, fills=("LnsSpec.control", "LacSpec.control")),
    Key("ppp", None, "PPP on the calls.", eg="{auth: mschapv2, pool: 10.9.0.0/20}",
        section=PPP, inherited=True, fills=("LnsSpec.ppp", "LacSpec.ppp")),
    Key("hooks", None, "Programs that are told of calls.", eg="{up: /etc/kl2tp/call-up}",
        section=HOOKS, inherited=True, fills=("LnsSpec.hooks", "LacSpec.hooks")),
    Key("sequencing", scalar.SEQUENCING,
        "send: number our data packets; require: drop the peer's that have no number; both.",
        eg="both", default="none", inherited=True,
        fills=("LnsSpec.send_sequence", "LnsSpec.require_sequence",
               "LacSpec.send_sequence", "LacSpec.require_sequence")),
    Key("reorder", scalar.REORDER,
        "How long a packet that came too early waits for those before it, milliseconds.",
        eg="50ms", default="0", inherited=True, fills=("LnsSpec.reorder_ms", "LacSpec.reorder_ms")),
)

LNS = section(
    "lns",
    "A profile for peers that call us. Of several that fit a peer the most exact one serves it: first by the address "
    "that was called, then by the longest prefix of peers, then by host name.",
    Key("listen", call_scalars.LISTEN,
        "Addresses that can be called: one or a list. IPv6 with a port is quoted: \"[2001:db8::1]:1701\".",
        eg="198.51.100.1", default="all, port 1701", many=True, inherited=True, fills=("LnsSpec.listen",)),
    Key("peers", call_scalars.PEERS, "The peers that it is for: an address, a prefix, or a list of them.",
        eg="[203.0.113.0/24, 192.0.2.7]", default="all", many=True, fills=("LnsSpec.peers",)),
    Key("host_names", call_scalars.HOST_PATTERN,
        "Host names of the peers that it is for, with the wildcards * and ?. Peers may say what they like: demand a "
        "secret too.",
        eg="[branch-*]", default="all", many=True, alias="host_name", fills=("LnsSpec.host_names",)),
    *_CALLS,
    Key("ipsec", None, "Protection by ESP.",
        eg="{ike: {psk_file: /etc/kl2tp/ike.psk}}", default="off", section=LNS_IPSEC, inherited=True,
        fills=("LnsSpec.ike",)),
    Key("interface", None, "The network devices of the calls.",
        eg="office{n}", section=LNS_INTERFACE, inherited=True, fills=("LnsSpec.interface",)),
    Key("limits", None, "What is too much.", eg="{sessions: 1000}",
        section=LIMITS, inherited=True, fills=("LnsSpec.limits",)),
    Key("sessions_per_user", call_scalars.PER_USER, "Calls that one user may have at a time.",
        eg="1", default="off", inherited=True, fills=("LnsSpec.sessions_per_user",)),
)

RETRY = section(
    "retry", "When a call that failed or ended is placed again. Short form: the first wait.",
    Key("first", call_scalars.seconds(0.1, 3600), "The first wait; it doubles with each failure.",
        eg="5s", default="1s", fills=("LacSpec.retry_first",)),
    Key("cap", call_scalars.seconds(0.1, 86_400), "The longest wait.",
        eg="5m", default="60s", fills=("LacSpec.retry_cap",)),
    short=Key("first", call_scalars.seconds(0.1, 3600), "The first wait."),
)

LAC = section(
    "lac", "A call that we place and keep.",
    Key("remote", call_scalars.SERVER,
        "The server, or a list of servers in the order in which they are tried.",
        eg="[198.51.100.1, 203.0.113.1:1702]", required=True, many=True, fills=("LacSpec.remotes",)),
    Key("local", call_scalars.LOCAL, "Our address.",
        eg="192.0.2.7", default="auto: what the route gives", inherited=True, fills=("LacSpec.local",)),
    Key("local_port", call_scalars.PORT_OR_AUTO, "Our UDP port; auto: any that is free.",
        eg="auto", default="1701", inherited=True, fills=("LacSpec.local",)),
    Key("user", call_scalars.TEXT, "The name that we log in with.",
        eg="branch1", default="none", inherited=True, fills=("LacSpec.user",)),
    Key("password_file", call_scalars.SECRET_FILE, "File with the password in one line.",
        eg="/etc/kl2tp/branch1.password", default="what the users' files say of the user", inherited=True,
        fills=("LacSpec.password_file",)),
    *_CALLS,
    Key("ipsec", None, "Protection by ESP.",
        eg="{ike: {psk_file: /etc/kl2tp/ike.psk}}", default="off", section=LAC_IPSEC, inherited=True,
        fills=("LacSpec.ike",)),
    Key("interface", None, "The network device of the call.",
        eg="{name: hq0, routes: [10.0.0.0/8]}", section=LAC_INTERFACE, inherited=True, fills=("LacSpec.interface",)),
    Key("outgoing", scalar.BOOLEAN,
        "Ask the peer to place a call for us (OCRQ); PPP then is as an LNS does it.",
        eg="true", default="false", inherited=True, fills=("LacSpec.outgoing",)),
    Key("called_number", call_scalars.CALLED_NUMBER, "The number that is called.",
        eg="5550100", default="none", fills=("LacSpec.called_number",)),
    Key("persist", scalar.BOOLEAN, "Whether the call is placed again when it failed or ended.",
        eg="false", default="true", inherited=True, fills=("LacSpec.persist",)),
    Key("retry", None, "When it is placed again.", eg="{first: 5s, cap: 5m}", section=RETRY, inherited=True),
    Key("own_tunnel", scalar.BOOLEAN, "A tunnel for this call alone; else calls to one server share one.",
        eg="true", default="false", inherited=True, fills=("LacSpec.own_tunnel",)),
)

POOL = section(
    "pool", "Addresses, or IPv6 prefixes, for peers. Short form: its ranges. Our own addresses are left out of it.",
    Key("ranges", call_scalars.POOL_RANGE,
        "One or a list. A prefix stands for its hosts: without the network's and the broadcast address.",
        eg="[10.9.0.0/24, 10.9.4.10-10.9.4.99]", required=True, many=True, fills=("PoolSpec.ranges",)),
    Key("except", call_scalars.POOL_RANGE, "What of them is not given to anybody.",
        eg="10.9.0.1-10.9.0.9", default="nothing", many=True, fills=("PoolSpec.ranges",)),
    Key("prefix_length", scalar.integer(48, 64),
        "IPv6 only: of the prefix that one call gets. With any but 64 hosts can't make addresses by themselves.",
        eg="56", default="64", fills=("PoolSpec.prefix_length",)),
    short=Key("ranges", call_scalars.POOL_RANGE, "The ranges.", many=True),
)

USERS = section(
    "users",
    "Who may log in, and with which addresses. Short form: the files. Several files of the configuration may add "
    "files of users.",
    Key("files", call_scalars.SECRET_FILE,
        "*.yaml files are in kl2tp's own format, all others in that of pppd's chap-secrets. Nobody else may be able "
        "to read them.",
        eg="[/etc/kl2tp/users.yaml, /etc/ppp/chap-secrets]", many=True, alias="file", fills=("UsersSpec.files",)),
    Key("refusal_delay", call_scalars.seconds(0, 60),
        "How long a refusal takes after the first failure from one address; it doubles with each further one.",
        eg="2s", default="1s", fills=("UsersSpec.refusal_delay",)),
    Key("refusals", scalar.integer(1, 10_000), "After so many failures in a row an address is refused at once ...",
        eg="5", default="10", fills=("UsersSpec.refusals",)),
    Key("refusal_time", call_scalars.seconds(1, 86_400), "... for so long.",
        eg="10m", default="60s", fills=("UsersSpec.refusal_time",)),
    short=Key("files", call_scalars.SECRET_FILE, "The files.", many=True),
)

DEFAULTS_LNS = inheritable("defaults.lns", "What every LNS profile inherits.", LNS)
DEFAULTS_LAC = inheritable("defaults.lac", "What every call that we place inherits.", LAC)

# fmt: on

SECTIONS: tuple[Section, ...] = (
    *(LNS, LAC, CONTROL, RETRANSMIT, PPP, ECHO, LNS_INTERFACE, LAC_INTERFACE, CALL_ROUTE),
    *(LIMITS, HOOKS, RETRY, LNS_IPSEC, LAC_IPSEC, IKE, POOL, USERS),
)
"""In the order of the reference."""
