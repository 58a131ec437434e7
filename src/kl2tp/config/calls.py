"""Fields of lns, lac, pools and users, collected from all files.

Nothing is built before all files are read: a profile may use pools and users of any file.
"""

from typing import Any, TypeAlias

from kl2tp.config.call_parts import given
from kl2tp.config.call_schema import (
    CONTROL,
    DEFAULTS_LAC,
    DEFAULTS_LNS,
    ECHO,
    HOOKS,
    LAC,
    LAC_INTERFACE,
    LIMITS,
    LNS,
    LNS_INTERFACE,
    PPP,
    RETRANSMIT,
    RETRY,
)
from kl2tp.config.conflicts import Claim, Claims
from kl2tp.config.fields import Bases, Broken, Fields, unknown
from kl2tp.config.ike_schema import IKE, LAC_IPSEC, LNS_IPSEC
from kl2tp.config.key import Section
from kl2tp.config.pools import PoolBuilder
from kl2tp.config.problem import Mark, Problems, where
from kl2tp.config.profiles import ProfileBuilder
from kl2tp.model.calls import UsersSpec
from kl2tp.model.desired import Desired

Draft: TypeAlias = tuple[str, Mark, Fields]


def bases(defaults: Fields | None, kind: str) -> Bases:
    """What the sections of a profile (`lns`) or call (`lac`) inherit."""
    whole = _part(defaults, kind, DEFAULTS_LNS if kind == "lns" else DEFAULTS_LAC)
    control, ppp = _part(whole, "control", CONTROL), _part(whole, "ppp", PPP)
    interface = LNS_INTERFACE if kind == "lns" else LAC_INTERFACE
    protection = LNS_IPSEC if kind == "lns" else LAC_IPSEC
    ipsec = _part(whole, "ipsec", protection)
    found: Bases = {
        LNS if kind == "lns" else LAC: whole,
        CONTROL: control,
        RETRANSMIT: _part(control, "retransmit", RETRANSMIT),
        PPP: ppp,
        ECHO: _part(ppp, "echo", ECHO),
        interface: _part(whole, "interface", interface),
        HOOKS: _part(whole, "hooks", HOOKS),
        protection: ipsec,
        IKE: _part(ipsec, "ike", IKE),
    }
    more = (LIMITS, "limits") if kind == "lns" else (RETRY, "retry")
    return {**found, more[0]: _part(whole, more[1], more[0])}


def _part(fields: Fields | None, key: str, section: Section) -> Fields | None:
    if fields is None:
        return None
    try:
        part: Fields | None = fields.get(key)
    except Broken:
        return unknown(section, fields.mark)
    return part


class CallBuilder:
    """All that a configuration says of calls."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.pools = PoolBuilder(problems)
        self.lns: list[Draft] = []
        self.lac: list[Draft] = []
        self.users: list[tuple[Mark, Fields]] = []
        self.names: dict[tuple[str, str], Claim] = {}

    def __bool__(self) -> bool:
        return bool(self.lns or self.lac or self.pools.pools or self.pools.broken or self.users)

    def add(self, kind: str, name: str, mark: Mark, fields: Fields) -> None:
        """A profile, a call or a pool. Names are unique among their kind, over all files."""
        claim = (mark, name)
        first = self.names.setdefault((kind, name), claim)
        if first is not claim:
            message = f"{name}: the name is taken in {kind} at {where(first[0])}"
            self.problems.add(mark, message, "names are unique over all files", "name")
        elif kind == "pools":
            self.pools.add(name, mark, fields)
        else:
            (self.lns if kind == "lns" else self.lac).append((name, mark, fields))

    def add_users(self, mark: Mark, fields: Fields) -> None:
        """What one file says of users."""
        self.users.append((mark, fields))

    def finish(self, desired: Desired, claims: Claims, complete: bool) -> Desired:
        """The configuration with its calls; `complete`: all files could be read. Problems are reported."""
        try:
            users: UsersSpec | None = self._users()
        except Broken:
            users = None
        self.pools.complete = complete
        build = ProfileBuilder(self.problems, claims, self.pools, users if complete else None)
        lns = [build.lns(*draft) for draft in self.lns]
        lac = [build.lac(*draft) for draft in self.lac]
        pools = build.finish()
        return Desired(
            desired.tunnels,
            desired.daemon,
            tuple([spec for spec in lns if spec is not None]),
            tuple([spec for spec in lac if spec is not None]),
            pools,
            users or UsersSpec(),
        )

    def _users(self) -> UsersSpec:
        """The files of all places, and settings that each stand in one of them. Raises `Broken`."""
        files: dict[str, None] = {}
        settings: dict[str, Any] = {}
        places: dict[str, Mark] = {}
        for _, fields in self.users:
            values = given(fields)
            files |= dict.fromkeys(values.pop("files", ()))
            for key, value in values.items():
                if key in places:
                    message = f"users: {key} is set at {where(places[key])} too"
                    self.problems.add(fields.place(key), message, "keep one of them", key)
                places[key] = fields.place(key)
                settings[key] = value
        return UsersSpec(tuple(files), **settings)
