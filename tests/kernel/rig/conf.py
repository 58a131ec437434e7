"""Configurations for both ends of tunnels."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from kernel.rig.net import Host
from kl2tp.ipsec.keys import generate

Tree: TypeAlias = dict[str, Any]


def make_key(path: Path, *more: str) -> str:
    """Write a new key file; further lines come after its key. The path."""
    write_key(path, generate(), *more)
    return str(path)


def write_key(path: Path, *lines: str) -> None:
    """Put a key file in the place of another, as an operator should: atomically."""
    fresh = path.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_text("".join(f"{line}\n" for line in lines))
    fresh.replace(path)


def write(path: Path, tunnels: Mapping[str, Tree], **more: Any) -> Path:
    """Write a configuration."""
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"tunnels": dict(tunnels), **more}, sort_keys=False))
    fresh.replace(path)
    return path


def device(number: int) -> str:
    """The interface of the tunnel with that number."""
    return f"pw{number}"


def inner(number: int, end: int) -> str:
    """The address of an end, 1 or 2, inside the tunnel with that number."""
    return f"10.{number // 256}.{number % 256}.{end}"


def tunnel(near: Host, far: Host, number: int, *, v6: bool = False, session: Tree | None = None, **more: Any) -> Tree:
    """The near end of a tunnel; `more` are keys of the tunnel, `session` of its session."""
    prefix = "2001:db8::" if v6 else "192.0.2."
    end = 1 if near.number < far.number else 2
    ids = [1000 + number, 2000 + number]
    ports = [20000 + number, 30000 + number]
    if end == 2:
        ids.reverse()
        ports.reverse()
    found: Tree = {
        "local": f"{prefix}{near.number}",
        "remote": f"{prefix}{far.number}",
        "ids": f"{ids[0]}/{ids[1]}",
    }
    if more.get("encapsulation") == "udp":
        found["ports"] = f"{ports[0]}/{ports[1]}"
    interface = {"name": device(number), "address": f"{inner(number, end)}/24"}
    wish = copy.deepcopy(session or {})
    interface |= wish.pop("interface", {})
    if "addresses" in interface:
        del interface["address"]
    return found | copy.deepcopy(more) | {"sessions": {"lan": {**wish, "interface": interface}}}
