"""A session as a plain value, and back."""

from collections.abc import Mapping
from typing import Any

from kl2tp.access.users import Users
from kl2tp.calls.gate import ppp_name
from kl2tp.calls.network import Grant
from kl2tp.calls.session import Phase, Session
from kl2tp.control.call import Call
from kl2tp.kernel.pppol2tp import SessionWish
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.model.desired import Desired

_BYTES = ("local", "peer", "local_iid", "peer_iid", "prefix")
_PLAIN = ("held", "prefix_length", "prefix_held")


def snapshot(session: Session) -> dict[str, Any] | None:
    """What a session needs to go on; None: it is over, or there is nothing yet that could go on."""
    if session.hold is None or session.phase is Phase.CLOSING or not session.unit_ready:
        return None
    grant = session.grant
    return {
        "profile": session.profile.name,
        "lac": isinstance(session.profile, LacSpec),
        "identity": session.identity,
        "user": session.counted,
        "device": session.device,
        "number": session.number,
        "mtu": session.mtu,
        "since": session.since,
        "up": session.up_since,
        "link": session.link.save(),
        "grant": {
            **{name: getattr(grant, name).hex() for name in _BYTES},
            **{name: getattr(grant, name) for name in _PLAIN},
            "dns": [address.hex() for address in grant.dns],
        },
    }


class Snapshot:
    """What `snapshot` gave. Raises KeyError, ValueError, TypeError for what it did not."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value
        self.link: dict[str, Any] = value["link"]
        self.device = str(value["device"])
        self.mtu = int(value["mtu"])

    def profile(self, desired: Desired) -> LnsSpec | LacSpec | None:
        """The profile, if there still is one of that name."""
        specs = desired.lac if self._value["lac"] else desired.lns
        return next((spec for spec in specs if spec.name == self._value["profile"]), None)

    def wish(self, call: Call, profile: LnsSpec | LacSpec | None) -> SessionWish:
        """The kernel's half as it was made."""
        tunnel = call.tunnel
        return SessionWish(
            tunnel.id,
            call.id,
            tunnel.peer_id,
            call.peer_id,
            self.device,
            self.mtu,
            lns=call.lns,
            netns=(profile.interface.netns or None) if profile is not None else None,
        )

    def fill(self, session: Session, users: Users) -> None:
        """Give a session what it had; the user as it is now."""
        value = self._value
        session.identity = str(value["identity"])
        session.counted = str(value["user"])
        session.device, session.mtu, session.number = self.device, self.mtu, int(value["number"])
        session.since, session.up_since = float(value["since"]), float(value["up"])
        session.phase = Phase.UP if session.up_since else Phase.NETWORK
        session.opened = session.ready_for_network = session.unit_ready = True
        session.grant = _grant(value["grant"])
        if session.counted:
            session.user = users.lookup(session.counted, ppp_name(session.profile))
            session.grant.routes = session.user.routes if session.user is not None else ()
        elif isinstance(session.profile, LacSpec):
            session.grant.routes = session.profile.routes


def _grant(value: Mapping[str, Any]) -> Grant:
    grant = Grant(dns=tuple(bytes.fromhex(address) for address in value["dns"]))
    for name in _BYTES:
        setattr(grant, name, bytes.fromhex(value[name]))
    for name in _PLAIN:
        setattr(grant, name, type(getattr(grant, name))(value[name]))
    return grant
