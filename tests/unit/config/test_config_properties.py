"""Whatever is written out is read back; whatever is read never fails with anything but a ConfigError.

KL2TP_EXAMPLES=20 tries twenty times as many examples.
"""

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kl2tp.config import ConfigError, Problem, loads, schema
from kl2tp.config.ike_schema import IKE
from kl2tp.model import addr
from kl2tp.model.algorithms import ALGORITHMS
from kl2tp.model.ciphers import CIPHERS
from kl2tp.model.spec import (
    NO_COOKIE,
    CookieSpec,
    Encap,
    InterfaceSpec,
    IpsecSpec,
    L2Spec,
    Mode,
    RouteSpec,
    SessionSpec,
    TunnelSpec,
    Where,
)

TIMES = int(os.environ.get("KL2TP_EXAMPLES", "1"))
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
REQID_BASE = 0x6B6C0000
PORTS = st.integers(1, 65535)
U32 = st.integers(1, 0xFFFFFFFF)
PATHS = st.from_regex(r"/[a-z./ {}'\"#:é-]{0,20}[a-z]", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,9}", fullmatch=True)
BITS = st.booleans()


class World:
    """What may exist only once: each draw of a number is new."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self._count = itertools.count(1)

    def new(self) -> int:
        return next(self._count)

    def v4(self, first: int) -> bytes:
        return bytes((first, *divmod(self.new(), 250), self.draw(st.integers(1, 254))))

    def v6(self, first: int) -> bytes:
        middle = self.draw(st.binary(min_size=11, max_size=11))
        return bytes((0x20, first)) + self.new().to_bytes(2) + middle + b"\x01"


@st.composite
def tunnels(draw: st.DrawFn) -> list[TunnelSpec]:
    """A few tunnels that disturb each other in nothing."""
    world = World(draw)
    return [tunnel(world) for _ in range(draw(st.integers(0, 3)))]


def tunnel(world: World) -> TunnelSpec:
    draw = world.draw
    six = draw(BITS)
    local, remote = (world.v6(1), world.v6(2)) if six else (world.v4(10), world.v4(11))
    encap = draw(st.sampled_from(Encap))
    udp = encap == Encap.UDP
    local_id = world.new() << 16 | draw(st.integers(0, 0xFFFF))
    protection = draw(st.none() | st.just(1)) and ipsec(world, local_id)
    secret = "" if protection else draw(st.just("") | PATHS)
    route = draw(st.none() | st.just(1)) and peer_route(world, remote)
    device = draw(st.sampled_from(("", "eth0", "wan.5"))) if route and route.via else "eth1" if route else ""
    return TunnelSpec(
        f"{draw(NAMES)}{world.new()}",
        local,
        remote,
        local_id,
        draw(U32),
        encap,
        20000 + world.new() if udp else 0,
        draw(PORTS) if udp else 0,
        draw(BITS) if udp else True,
        draw(st.sampled_from(("", "uplink"))),
        draw(st.integers(1500, 65535)),
        route or None,
        device,
        protection or None,
        secret,
        tuple(session(world, bool(protection or secret)) for _ in range(draw(st.integers(1, 3)))),
    )


def peer_route(world: World, remote: bytes) -> RouteSpec:
    draw = world.draw
    via = draw(st.just(b"") | st.just(world.v6(3) if len(remote) == 16 else world.v4(12)))
    return RouteSpec(remote, len(remote) * 8, via, draw(st.integers(0, 0xFFFFFFFF)), draw(U32))


def ipsec(world: World, local_id: int) -> IpsecSpec:
    draw = world.draw
    esn = draw(BITS)
    nat = (draw(st.integers(1, 19999)), draw(PORTS)) if draw(BITS) else (0, 0)
    mask = draw(U32)
    offload = "" if nat[0] else draw(st.sampled_from(("", "eth0")))
    return IpsecSpec(
        draw(st.sampled_from(list(CIPHERS))),
        draw(PATHS | st.just("credential:some-key_1.k")),
        draw(st.sampled_from(Mode)),
        (REQID_BASE + local_id) & 0xFFFFFFFF if draw(BITS) else world.new(),
        esn,
        draw(st.integers(1 if esn else 0, 4096)),
        *nat,
        draw(st.none() | st.integers(0, 0xFFFFFFFF).map(lambda value: (value & mask, mask))),
        offload,
        bool(offload) and draw(BITS),
        draw(st.sampled_from(("", "left", "right"))),
        draw(st.integers(0, 3600)),
    )


def session(world: World, has_key: bool) -> SessionSpec:
    draw = world.draw
    l2spec = draw(st.sampled_from(L2Spec))
    send, require = (draw(BITS), draw(BITS)) if l2spec else (False, False)
    return SessionSpec(
        f"{draw(NAMES)}{world.new()}",
        world.new(),
        world.new(),
        interface(world),
        cookie(world, has_key),
        l2spec,
        send,
        require,
        draw(st.integers(0, 10000)) if send or require else 0,
    )


def cookie(world: World, has_key: bool) -> CookieSpec:
    draw = world.draw
    if has_key and draw(BITS):
        return draw(st.sampled_from((CookieSpec(4), CookieSpec(8), NO_COOKIE)))
    sides = st.sampled_from((0, 4, 8)).flatmap(lambda size: st.binary(min_size=size, max_size=size))
    local, peer = draw(sides), draw(sides)
    return CookieSpec(max(len(local), len(peer)), local, peer)


def interface(world: World) -> InterfaceSpec:
    draw = world.draw
    bridge = draw(st.sampled_from(("", "br-lan")))
    addresses: list[tuple[bytes, int]] = []
    routes: list[RouteSpec] = []
    up = draw(BITS)
    if not bridge:
        addresses += [(world.v4(100), 16)] if draw(BITS) else []
        addresses += [(world.v6(9), 64)] if draw(BITS) else []
        routes += [inner_route(world, addresses) for _ in range(draw(st.integers(0, 2)) if up else 0)]
    mtu = draw(st.none() | st.integers(1280, 65535))
    return InterfaceSpec(
        f"{draw(st.sampled_from(('i', 'on', '0x1', 'no.', '1_', 'a@b+', 'true-')))}{world.new()}",
        mtu,
        tuple(addresses),
        tuple(routes),
        bridge,
        "" if bridge else draw(st.sampled_from(("", "vrf-blue"))),
        draw(st.sampled_from((None, "", "customer"))),
        draw(st.none() | st.just(0) | st.integers(88, (mtu or 65535) - 60)),
        draw(st.just(b"") | st.just(bytes((2, 0, 0, 0, *divmod(world.new(), 256))))),
        up,
    )


def inner_route(world: World, addresses: list[tuple[bytes, int]]) -> RouteSpec:
    draw = world.draw
    to = (bytes((120, *divmod(world.new(), 250), 0)), 24)
    gateways = [address[:-1] + bytes((address[-1] ^ 0xFF or 1,)) for address, _ in addresses if len(address) == 4]
    via = draw(st.sampled_from([b"", *gateways]))
    return RouteSpec(*to, via, draw(st.integers(0, 9)), draw(st.sampled_from((254, 255, 100))))


# Back to YAML


def pair(one: int, other: int) -> str:
    return str(one) if one == other else f"{one}/{other}"


def tunnel_keys(spec: TunnelSpec) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "local": addr.text(spec.local),
        "remote": addr.text(spec.remote),
        "encapsulation": spec.encap.name.lower(),
        "ids": pair(spec.id, spec.peer_id),
        "netns": spec.netns or "default",
        "path_mtu": spec.path_mtu,
        "ipsec": ipsec_keys(spec.ipsec) if spec.ipsec else "off",
        "sessions": {one.name: session_keys(one) for one in spec.sessions},
    }
    if spec.encap == Encap.UDP:
        keys |= {"ports": pair(spec.local_port, spec.remote_port), "checksum": spec.checksum}
    if spec.route:
        keys["route"] = route_keys(spec.route) | ({"device": spec.route_device} if spec.route_device else {})
    if spec.secret_file:
        keys["secret_file"] = spec.secret_file
    return keys


def route_keys(spec: RouteSpec) -> dict[str, Any]:
    return {"metric": spec.metric, "table": spec.table} | ({"via": addr.text(spec.via)} if spec.via else {})


def ipsec_keys(spec: IpsecSpec) -> dict[str, Any]:
    where = spec.key_file
    key = {"credential": where.partition(":")[2]} if where.startswith("credential:") else {"key_file": where}
    keys: dict[str, Any] = {
        **key,
        "proposal": spec.cipher,
        "mode": spec.mode.name.lower(),
        "reqid": spec.reqid,
        "esn": spec.esn,
        "replay_window": spec.replay_window,
        "nat_traversal": pair(spec.nat_local_port, spec.nat_remote_port) if spec.nat_local_port else "off",
        "mark": f"{spec.mark[0]:#x}/{spec.mark[1]:#x}" if spec.mark else "none",
        "side": spec.side or "auto",
        "overlap": f"{spec.overlap}s",
    }
    if spec.offload_device:
        kind = "packet" if spec.offload_packet else "crypto"
        keys["offload"] = {"device": spec.offload_device, "type": kind}
    return keys


def session_keys(spec: SessionSpec) -> dict[str, Any]:
    words = {(False, False): "none", (True, False): "send", (False, True): "require", (True, True): "both"}
    return {
        "ids": pair(spec.id, spec.peer_id),
        "cookie": cookie_keys(spec.cookie),
        "sequencing": words[spec.send_sequence, spec.require_sequence],
        "reorder": spec.reorder_ms,
        "l2_sublayer": spec.l2spec.name.lower(),
        "interface": interface_keys(spec.interface),
    }


def cookie_keys(spec: CookieSpec) -> Any:
    if spec.local is None or spec.peer is None:
        return f"auto{spec.length}"
    if not spec.length:
        return "none"
    return {"local": spec.local.hex() or "none", "peer": spec.peer.hex() or "none"}


def interface_keys(spec: InterfaceSpec) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "name": spec.name,
        "mtu": "auto" if spec.mtu is None else spec.mtu,
        "addresses": [addr.prefix(*one) for one in spec.addresses],
        "routes": [{"to": addr.prefix(one.destination, one.prefix_length)} | route_keys(one) for one in spec.routes],
        "bridge": spec.bridge or "none",
        "vrf": spec.vrf or "none",
        "mss": "off" if spec.mss is None else spec.mss or "auto",
        "up": spec.up,
    }
    if spec.netns is not None:
        keys["netns"] = spec.netns or "default"
    if spec.mac:
        keys["mac"] = spec.mac.hex(":")
    return keys


@settings(deadline=None, max_examples=40 * TIMES, suppress_health_check=SLOW)
@given(tunnels(), st.sampled_from(["block", "flow", "json"]))
def test_tunnels_written_as_yaml_are_read_back(specs: list[TunnelSpec], style: str) -> None:
    data = {"tunnels": {spec.name: tunnel_keys(spec) for spec in specs}}
    if style == "json":
        text = json.dumps(data, ensure_ascii=False)
    else:
        text = yaml.safe_dump(data, default_flow_style=style == "flow", allow_unicode=True, sort_keys=False)
    assert loads(text).tunnels == tuple(specs)


# Garbage


def load_anything(text: str) -> None:
    """Load; only a ConfigError that says where and what is accepted."""
    problems: tuple[Problem, ...] = ()
    try:
        loads(text)
    except ConfigError as error:
        problems = error.problems or (Problem(Where("", 0, 0), ""),)
    lines = len(re.split("[\n\r\x85\u2028\u2029]", text))
    for problem in problems:
        assert problem.message
        assert "\n" not in problem.message + problem.hint
        assert 0 <= problem.where.line <= lines


@settings(deadline=None, max_examples=100 * TIMES)
@given(st.text())
def test_any_text(text: str) -> None:
    load_anything(text)


@settings(deadline=None, max_examples=100 * TIMES)
@given(st.text(st.sampled_from("{}[]:,-?&*!|>'\"%@`# \n\tna1")))
def test_any_yaml_punctuation(text: str) -> None:
    load_anything(text)


WORDS = sorted({word for section in schema.sections() for word in section.keys} | {"<<", "x", "t{n}"})
VALUES = st.sampled_from(
    ["", "off", "none", "auto", "1", "0", "1/2", "10.0.0.1", "10.0.0.2/24", "2001:db8::1", "ip", "udp", "{n}",
     "{n // 0}", "1-3", "/k", "both", "default", "eth0", "-1", "null", "0badcafe", "99999999999999999999999",
     "psk", "cert", "eap", "any", "legacy-clients", "aes256-sha256-modp2048", "aes128gcm16", "CN=x", "*.x", "{n}-sha1"]
)  # fmt: skip
TREES = st.recursive(
    VALUES | st.none() | st.booleans() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=8),
    max_leaves=40,
)


@settings(deadline=None, max_examples=60 * TIMES, suppress_health_check=SLOW)
@given(st.dictionaries(st.sampled_from(WORDS), TREES, max_size=6))
def test_any_tree_of_known_words(tree: dict[str, Any]) -> None:
    load_anything(json.dumps(tree))


EXAMPLES = [path.read_text() for path in sorted((Path(__file__).parents[3] / "config").glob("*.yaml"))]
SMALL = [text for text in EXAMPLES if "sets:" not in text]


@settings(deadline=None, max_examples=100 * TIMES)
@given(st.data())
def test_any_damage_to_an_example(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(SMALL))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 20)))
        inserted = data.draw(st.text(max_size=3) | st.sampled_from([": ", "- ", "{", "}", "\n", "*a", "&a ", "<<: "]))
        text = text[:start] + inserted + text[end:]
    load_anything(text)


@settings(deadline=None, max_examples=40 * TIMES, suppress_health_check=SLOW)
@given(st.dictionaries(st.sampled_from(sorted(schema.SET.keys)), TREES, max_size=8), st.sampled_from(["t{n}", "t"]))
def test_any_set(keys: dict[str, Any], name: str) -> None:
    whole = {"range": "1-3", "local": "10.0.0.1", "remote": "10.0.1.{n}", "ids": "{n}", "sessions": {"s": None}}
    load_anything(json.dumps({"sets": {name: whole | keys}}))


IKE_KEYS = sorted(IKE.keys)
IKE_VALUES = VALUES | st.sampled_from([*sorted(ALGORITHMS)[::9], "i-accept-broken-crypto", "strong", "yes", "2", "1h"])


@settings(deadline=None, max_examples=100 * TIMES, suppress_health_check=SLOW)
@given(
    st.dictionaries(st.sampled_from(IKE_KEYS), IKE_VALUES | st.lists(IKE_VALUES, max_size=3), max_size=8) | IKE_VALUES,
    st.dictionaries(st.sampled_from(sorted(schema.IPSEC.keys)), VALUES, max_size=2),
    st.dictionaries(st.sampled_from(IKE_KEYS), IKE_VALUES, max_size=4) | IKE_VALUES,
)
def test_any_ike(ike: Any, ipsec: dict[str, Any], inherited: Any) -> None:
    ends = {
        "local": "10.0.0.1",
        "remote": "10.0.1.2",
        "ids": "7",
        "sessions": {"s": None},
        "ipsec": {"ike": ike} | ipsec,
    }
    call = {"remote": "10.0.2.1", "user": "joe", "ipsec": {"ike": ike}}
    common = {"ipsec": {"ike": inherited}}
    tree = {
        "defaults": common | {"lns": common, "lac": common},
        "tunnels": {"t": ends},
        "sets": {"t{n}": ends | {"range": "1-2", "ids": "{n}", "remote": "10.0.3.{n}"}},
        "lns": {"a": {"ipsec": {"ike": ike}}, "b": {"listen": "10.0.0.1"}},
        "lac": {"c": call, "d": call},
        "users": "/u",
    }
    load_anything(json.dumps(tree))
