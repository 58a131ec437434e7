"""The operator's wishes for L2TPv2 calls: whom we serve (LNS), whom we call (LAC), users' files and address pools.

Like tunnel specs these are frozen values without secrets: secrets are named by file. Addresses are packed bytes
(`kl2tp.model.addr`), times are seconds.
"""

from dataclasses import field

from kl2tp.model.ike import IkeSpec
from kl2tp.model.spec import RouteSpec, Where
from kl2tp.model.value import dataclass

PAP, CHAP, MSCHAPV2, EAP_MD5, EAP_MSCHAPV2 = "pap", "chap", "mschapv2", "eap-md5", "eap-mschapv2"
AUTH_METHODS = (EAP_MSCHAPV2, MSCHAPV2, EAP_MD5, CHAP, PAP)
"""Ways to authenticate, the strongest first."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Addresses, or IPv6 prefixes, that sessions are given."""

    name: str
    ranges: tuple[tuple[bytes, bytes], ...]
    """(first, last) address of each range, both included; for prefixes the first addresses of the first and last."""
    prefix_length: int
    """Of what one session gets: 32, or e.g. 64 for a pool of IPv6 prefixes."""
    where: Where = field(default=Where("", 0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class UsersSpec:
    """Where the users stand."""

    files: tuple[str, ...] = ()
    """Absolute paths; `.yaml`/`.yml` is our own format, everything else that of pppd's chap-secrets."""
    refusal_delay: float = 1.0
    """How long a refusal takes after the first failure from one source; it doubles with each further one."""
    refusals: int = 10
    """Failures from one source (peer address) in a row after which it is refused without being asked..."""
    refusal_time: float = 60.0
    """...for so long."""


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """How an L2TP control connection behaves, RFC 2661 4 and 5.8."""

    host_name: str = ""
    """Host Name AVP we send; empty: the host's."""
    secret_file: str = ""
    """The shared secret: one line, or lines of xl2tpd's l2tp-secrets; empty: no tunnel authentication."""
    challenge: bool = True
    """Whether the peer must prove that it knows the secret, where there is one."""
    hide_avps: bool = False
    window: int = 32
    """Our receive window, messages."""
    hello_interval: float = 60.0
    """Idle time after which the peer is asked whether it lives; 0: never."""
    retransmit_first: float = 1.0
    retransmit_cap: float = 8.0
    retransmit_tries: int = 5
    setup_timeout: float = 30.0
    """How long a tunnel or call may take to come up."""
    empty_timeout: float = 60.0
    """How long a tunnel without calls stays; 0: for ever."""


@dataclass(frozen=True, slots=True)
class PppSpec:
    """How PPP behaves on the calls of a profile."""

    auth: tuple[str, ...] = (MSCHAPV2, CHAP)
    """As LNS: what the peer must authenticate with, in order of preference; empty: nothing is asked.
    As LAC: what we are willing to answer."""
    local_address: bytes = b""
    """Our IPv4 address; empty: the one of the listening socket (LNS), the peer's word (LAC)."""
    pool: str = ""
    """IPv4 pool for peers whose user has no fixed address; empty: only users with one get IPv4."""
    pool6: str = ""
    """Pool of IPv6 prefixes, advertised to the peer."""
    ipv4: bool = True
    ipv6: bool = False
    dns: tuple[bytes, ...] = ()
    """At most two; IPv4 ones by IPCP, IPv6 ones by router advertisement."""
    nbns: tuple[bytes, ...] = ()
    mru: int | None = None
    """Bytes; None: what fits into the path."""
    path_mtu: int = 1500
    echo_interval: float = 30.0
    """0: never."""
    echo_failures: int = 4
    restart: float = 3.0
    """RFC 1661 restart timer."""
    max_configure: int = 10
    max_terminate: int = 2
    max_failure: int = 5
    auth_timeout: float = 30.0
    rechallenge: float = 0.0
    """How often a peer that is in has to prove again who it is, by CHAP or EAP; 0: never."""
    name: str = ""
    """Who we say we are in CHAP and EAP, and what the server column of chap-secrets must match; empty: the Host Name
    AVP that we send."""


@dataclass(frozen=True, slots=True)
class CallInterfaceSpec:
    """The network devices of calls."""

    name: str = "l2tp{n}"
    """{n} is the smallest number that is free."""
    mtu: int | None = None
    mss: int | None = 0
    """TCP MSS clamp in bytes: 0 computes it from the MTU, None clamps nothing."""
    vrf: str = ""
    netns: str | None = None
    """Namespace the device is moved to; None: where the tunnel is."""


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """What one profile takes at most."""

    tunnels: int = 16384
    tunnels_per_peer: int = 256
    sessions: int = 32768
    sessions_per_tunnel: int = 16384
    half_open: int = 4096
    """Tunnels that have not proved that their peer's address is theirs (before SCCCN)."""
    setup_rate: float = 0.0
    """New calls per second, with bursts of as many; 0: no limit."""


@dataclass(frozen=True, slots=True)
class HooksSpec:
    """Programs that are told of sessions."""

    up: str = ""
    down: str = ""
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class LnsSpec:
    """A profile for peers that call us."""

    name: str
    listen: tuple[tuple[bytes, int], ...] = ()
    """(address, port); empty: every address, port 1701."""
    peers: tuple[tuple[bytes, int], ...] = ()
    """(prefix, length) of the peers it is for; empty: all."""
    host_names: tuple[str, ...] = ()
    """Patterns (*, ?) of their Host Name AVP; empty: all."""
    control: ControlSpec = ControlSpec()
    ppp: PppSpec = PppSpec()
    interface: CallInterfaceSpec = CallInterfaceSpec()
    limits: LimitsSpec = LimitsSpec()
    hooks: HooksSpec = HooksSpec()
    send_sequence: bool = False
    require_sequence: bool = False
    reorder_ms: int = 0
    sessions_per_user: int = 0
    """0: no limit but the user's own."""
    ike: IkeSpec | None = None
    """Calls are taken only from inside IPsec. Profiles that listen at one place agree about it."""
    where: Where = field(default=Where("", 0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class LacSpec:
    """A call that we place and keep."""

    name: str
    remotes: tuple[tuple[bytes, int], ...]
    """(address, port) of the servers, in the order in which they are tried."""
    local: tuple[bytes, int] = (b"", 1701)
    """Our address and port; an empty address: what the route gives. Port 0: one of our own."""
    user: str = ""
    password_file: str = ""
    """Empty: the secret of `user` in the users' files."""
    control: ControlSpec = ControlSpec()
    ppp: PppSpec = PppSpec()
    interface: CallInterfaceSpec = CallInterfaceSpec()
    hooks: HooksSpec = HooksSpec()
    routes: tuple[RouteSpec, ...] = ()
    """Into the interface."""
    send_sequence: bool = False
    require_sequence: bool = False
    reorder_ms: int = 0
    outgoing: bool = False
    """Ask the peer (an LAC) to place a call for us: OCRQ; PPP then is ours as LNS would do it."""
    called_number: str = ""
    persist: bool = True
    retry_first: float = 1.0
    retry_cap: float = 60.0
    own_tunnel: bool = False
    """A tunnel for this call alone; otherwise calls to one server share one."""
    ike: IkeSpec | None = None
    """The call is placed inside IPsec only."""
    where: Where = field(default=Where("", 0, 0), compare=False)
