"""The same objects by `ip -batch` and `nft -f`: what a careful administrator's generated script would do."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from kl2tp.kernel.xfrm import WORN_PACKETS
from kl2tp.model.addr import prefix, text
from kl2tp.model.objects import Address, Clamp, Guard, KernelObject, Link, Policy, Sa, Selector, Session, Tunnel
from kl2tp.model.plan import Unit, _stage
from kl2tp.model.spec import Encap


def scripts(units: Iterable[Unit], directory: Path) -> None:
    """Write up.ip, up.nft, down.ip and down.nft."""
    objects = [o for unit in units for o in unit.objects]
    up = sorted(objects, key=lambda o: _stage(o, delete=False))
    (directory / "up.ip").write_text("".join(f"{line}\n" for o in up for line in _add(o)))
    (directory / "up.nft").write_text(_table(objects))
    gone = [o for o in objects if not isinstance(o, Link | Address | Session | Guard | Clamp)]
    down = sorted(gone, key=lambda o: _stage(o, delete=True))
    (directory / "down.ip").write_text("".join(f"{line}\n" for o in down for line in _delete(o)))
    (directory / "down.nft").write_text("delete table inet kl2tp\n")


def run(directory: Path, which: str) -> None:
    """Carry out `up` or `down`: protection first, or last."""
    ip = ["ip", "-batch", str(directory / f"{which}.ip")]
    nft = ["nft", "-f", str(directory / f"{which}.nft")]
    for command in (nft, ip) if which == "up" else (ip, nft):
        subprocess.run(command, check=True)


def commands(directory: Path) -> int:
    """Lines of up.ip."""
    return len((directory / "up.ip").read_text().splitlines())


def _add(o: KernelObject) -> Iterator[str]:
    if isinstance(o, Tunnel):
        udp = f" udp_sport {o.local_port} udp_dport {o.remote_port}" if o.encap == Encap.UDP else ""
        encap = o.encap.name.lower()
        yield (
            f"l2tp add tunnel tunnel_id {o.id} peer_tunnel_id {o.peer_id} encap {encap} "
            f"local {text(o.local)} remote {text(o.remote)}{udp}"
        )
    elif isinstance(o, Session):
        yield (
            f"l2tp add session tunnel_id {o.tunnel_id} session_id {o.id} peer_session_id {o.peer_id} "
            f"name {o.ifname} cookie {o.cookie.hex()} peer_cookie {o.peer_cookie.hex()}"
        )
    elif isinstance(o, Link):
        yield f"link set dev {o.name} mtu {o.mtu} alias {o.alias} group 1701 up"
    elif isinstance(o, Address):
        yield f"addr add {prefix(o.address, o.prefix_length)} dev {o.ifname}"
    elif isinstance(o, Sa):
        yield (
            f"xfrm state add {_sa(o)} reqid {o.reqid} mode {o.mode.name.lower()} "
            f"aead {o.encryption} 0x{o.key_material.reveal().hex()} {o.icv * 8} limit packet-soft {WORN_PACKETS}"
        )
    elif isinstance(o, Policy):
        template = ""
        if o.template:
            spi = f" spi {o.template.spi:#x}" if o.template.spi else ""
            template = f" tmpl proto esp{spi} reqid {o.template.reqid} mode {o.template.mode.name.lower()}"
        action = "allow" if o.template else "block"
        yield f"xfrm policy add {_policy(o)} priority {o.priority} action {action}{template}"


def _delete(o: KernelObject) -> Iterator[str]:
    if isinstance(o, Tunnel):
        yield f"l2tp del tunnel tunnel_id {o.id}"
    elif isinstance(o, Sa):
        yield f"xfrm state del {_sa(o)}"
    elif isinstance(o, Policy):
        yield f"xfrm policy del {_policy(o)}"


def _sa(sa: Sa) -> str:
    # Deleting wants no source, but takes one.
    return f"src {text(sa.source)} dst {text(sa.destination)} proto esp spi {sa.spi:#x}"


def _policy(policy: Policy) -> str:
    s: Selector = policy.selector
    ports = (f" sport {s.source_port}" if s.source_port else "") + (
        f" dport {s.destination_port}" if s.destination_port else ""
    )
    source, destination = prefix(s.source, s.source_length), prefix(s.destination, s.destination_length)
    protocol = "udp" if s.protocol == 17 else s.protocol
    return f"src {source} dst {destination} proto {protocol}{ports} dir {policy.direction.name.lower()}"


def _table(objects: list[KernelObject]) -> str:
    guards = [o for o in objects if isinstance(o, Guard)]
    clamps = [o for o in objects if isinstance(o, Clamp)]
    by_port = [f"{text(g.remote)} . {g.local_port} . {g.remote_port}" for g in guards if g.local_port]
    by_address = [text(g.remote) for g in guards if not g.local_port]
    sets = [
        _set("set guard4_udp", "ipv4_addr . inet_service . inet_service", by_port),
        _set("set guard4_ip", "ipv4_addr", by_address),
        _set("map mss4", "ifname : inet_service", [f'"{c.ifname}" : {c.mss4}' for c in clamps]),
        _set("map mss6", "ifname : inet_service", [f'"{c.ifname}" : {c.mss6}' for c in clamps]),
    ]
    return "table inet kl2tp {\n" + "".join(sets) + _CHAINS + "}\n"


def _set(head: str, kind: str, elements: list[str]) -> str:
    body = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f"  {head} {{ type {kind};{body} }}\n"


_CHAINS = """
  chain guard_out {
    type filter hook output priority mangle;
    meta l4proto udp ip daddr . udp sport . udp dport @guard4_udp rt ipsec missing counter drop
    meta l4proto 115 ip daddr @guard4_ip rt ipsec missing counter drop
  }
  chain guard_in {
    type filter hook input priority mangle;
    meta l4proto udp ip saddr . udp dport . udp sport @guard4_udp meta ipsec missing counter drop
    meta l4proto 115 ip saddr @guard4_ip meta ipsec missing counter drop
  }
  chain clamp {
    type filter hook forward priority mangle;
    tcp flags & (syn | rst) == syn oifname @mss4 counter
  }
"""
"""The chains' few rules are made once: their number does not grow with the tunnels."""
