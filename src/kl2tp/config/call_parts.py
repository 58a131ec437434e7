"""Fields of the parts of a call (control, ppp, interface, limits, hooks) to their specs.

The schema says which field of a spec each key fills, so a spec is made by looking at what is there; what is judged
here is how the values go together.
"""

from typing import Any

from kl2tp.config.fields import Broken, Fields
from kl2tp.config.key import Section
from kl2tp.config.problem import Mark, Problems, where
from kl2tp.model import addr
from kl2tp.model.calls import CallInterfaceSpec, ControlSpec, HooksSpec, LimitsSpec, PppSpec

SERVERS = 2
"""Name servers of one kind that IPCP has room for (RFC 1877)."""


def given(fields: Fields | None) -> dict[str, Any]:
    """What the keys that are there say, by the field of the spec that each fills. Raises `Broken`."""
    if fields is None:
        return {}
    if fields.broken:
        raise Broken
    values = {}
    for key in fields.section:
        if key.section is not None or len(key.fills) != 1 or key.name not in fields.all:
            continue
        value = fields.get(key.name)
        values[key.fills[0].partition(".")[2]] = tuple([one for one, _ in value]) if key.many else value
    return values


class Parts:
    """Builds the parts of one profile or call, `name`; `mark` is its place."""

    def __init__(self, problems: Problems, name: str, mark: Mark, fields: Fields) -> None:
        self.problems = problems
        self.name = name
        self.mark = mark
        self.fields = fields

    def part(self, key: str) -> Fields | None:
        """One part, own or inherited. Raises `Broken`."""
        part: Fields | None = self.fields.get(key)
        return part

    def refuse(self, fields: Fields | None, key: str, message: str, hint: str = "") -> None:
        """Report what is wrong with the value of a key."""
        place = self.mark if fields is None else fields.place(key)
        self.problems.add(place, f"{self.name}: {message}", hint, key)

    # control

    def control(self) -> ControlSpec:
        """The control connection. Raises `Broken`."""
        fields = self.part("control")
        if fields is None:
            return ControlSpec()
        retransmit: Fields | None = fields.get("retransmit")
        spec = ControlSpec(**given(fields), **given(retransmit))
        if not spec.secret_file:
            self._needs_secret(fields, spec)
        if spec.retransmit_first > spec.retransmit_cap:
            message = f"the first retransmission after {spec.retransmit_first:g} s is over the cap"
            self.refuse(retransmit, "first", message, f"cap is {spec.retransmit_cap:g} s: raise it too")
        return spec

    def _needs_secret(self, fields: Fields, spec: ControlSpec) -> None:
        for key, on in (("hide_avps", spec.hide_avps), ("challenge", "challenge" in fields.all and spec.challenge)):
            if on:
                self.refuse(fields, key, f"{key} needs a secret", "secret_file: /etc/kl2tp/l2tp-secrets")

    # ppp

    def ppp(self, pool: str, pool6: str) -> PppSpec:
        """PPP, with the names of its pools. Raises `Broken`."""
        fields = self.part("ppp")
        values = given(fields)
        echo: Fields | None = None if fields is None else fields.get("echo")
        values |= given(echo) | {"pool": pool, "pool6": pool6}
        values.setdefault("ipv6", bool(pool6))
        if "auth" in values:
            values["auth"] = self._auth(fields, values["auth"])
        spec = PppSpec(**values)
        self._families(fields, spec)
        self._servers(fields, spec)
        if spec.ipv6 and spec.mru is not None and spec.mru < 1280:
            self.refuse(fields, "mru", f"an mru of {spec.mru} is impossible with IPv6", "IPv6 needs 1280 bytes")
        return spec

    def _auth(self, fields: Fields | None, methods: tuple[str, ...]) -> tuple[str, ...]:
        if "" in methods and len(methods) > 1:
            self.refuse(fields, "auth", "auth: none stands alone: with it everybody is let in", "remove none")
        if len(set(methods)) < len(methods):
            twice = next(method for method in methods if methods.count(method) > 1)
            self.refuse(fields, "auth", f"auth names {twice or 'none'} twice", "each method once, the preferred first")
        return tuple(method for method in methods if method)

    def _families(self, fields: Fields | None, spec: PppSpec) -> None:
        """What carries no IPv4 needs no IPv4 pool, and the same for IPv6."""
        if not spec.ipv4 and not spec.ipv6:
            self.refuse(fields, "ipv4", "calls that carry neither IPv4 nor IPv6 carry nothing", "ipv6: true")
        for key, pool, carried, version in (
            ("pool", spec.pool, spec.ipv4, "ipv4"),
            ("pool6", spec.pool6, spec.ipv6, "ipv6"),
            ("local", addr.text(spec.local_address), spec.ipv4, "ipv4"),
        ):
            if pool and not carried and fields is not None:
                at = where(fields.place(version))
                self.refuse(fields, key, f"{key} is {pool}, but {version} is false (at {at})", "remove one of them")

    def _servers(self, fields: Fields | None, spec: PppSpec) -> None:
        by_key = {"dns": spec.dns, "nbns": spec.nbns}
        for key, servers in by_key.items():
            for size, carried, version in ((4, spec.ipv4, "IPv4"), (16, spec.ipv6, "IPv6")):
                found = [server for server in servers if len(server) == size]
                if found and not carried:
                    message = f"{key} {addr.text(found[0])} is {version}, which the calls don't carry"
                    self.refuse(fields, key, message, f"remove it, or set {version.lower()}: true")
                if len(found) > SERVERS:
                    message = f"{key} names {len(found)} {version} servers: there is room for {SERVERS}"
                    self.refuse(fields, key, message, "keep the two that are nearest")

    # the rest

    def interface(self, section: Section, name: str | None = None) -> CallInterfaceSpec:
        """The devices; `name` is what they are called if nothing else is said. Raises `Broken`."""
        fields = self.part("interface")
        values = given(fields)
        if name is not None:
            values.setdefault("name", name)
        spec = CallInterfaceSpec(**values)
        if spec.mtu is not None and spec.mss and spec.mss > spec.mtu - 40 and fields is not None:
            at = where(fields.place("mtu"))
            message = f"an mss of {spec.mss} is over {spec.mtu - 40}, the mtu (at {at}) less IP and TCP headers"
            self.refuse(fields, "mss", message, "mss: auto")
        return spec

    def limits(self) -> LimitsSpec:
        """What is too much. Raises `Broken`."""
        return LimitsSpec(**given(self.part("limits")))

    def hooks(self) -> HooksSpec:
        """Programs. Raises `Broken`."""
        fields = self.part("hooks")
        spec = HooksSpec(**given(fields))
        if fields is not None and "timeout" in fields.own and not spec.up and not spec.down:
            self.refuse(fields, "timeout", "hooks has a timeout, but no program", "up: /PATH, down: /PATH")
        return spec

    def sequencing(self) -> tuple[bool, bool, int]:
        """Whether packets are numbered, whether numbers are demanded, and for how long the early ones wait."""
        send, require = self.fields.get("sequencing", (False, False))
        reorder: int = self.fields.get("reorder", 0)
        if reorder and not send and not require:
            message = "reorder needs sequencing: packets without numbers have no order"
            self.refuse(self.fields, "reorder", message, "sequencing: both, on both ends")
        return send, require, reorder
