"""What the PPP machine of a session is told to do, by the profile that its call belongs to."""

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from kl2tp.calls import network
from kl2tp.calls.gate import ppp_name
from kl2tp.calls.network import Grant
from kl2tp.control.call import Call
from kl2tp.control.ids import Entropy
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.model.objects import Secret
from kl2tp.ppp.ipcp import Ipv4Settings
from kl2tp.ppp.ipv6cp import Ipv6Settings
from kl2tp.ppp.lcp import LinkSettings
from kl2tp.ppp.link import Link

Profile: TypeAlias = LnsSpec | LacSpec
_random = Entropy(os.urandom).take
"""A system call for each magic number would cost more than all the rest of it."""


def sequenced(profile: Profile, call: Call) -> bool:
    """Whether data packets of a call have sequence numbers."""
    return profile.send_sequence or profile.require_sequence or call.sequencing_required


def demands(profile: Profile) -> bool:
    """Whether the peer has to prove who it is; otherwise we may have to."""
    return isinstance(profile, LnsSpec) or profile.outgoing


class Links:
    """Makes links; one object of settings serves all of a profile."""

    def __init__(self) -> None:
        self._settings: dict[tuple[str, bool, bool, bool], LinkSettings] = {}

    def forget(self) -> None:
        """Profiles, or secrets, have changed."""
        self._settings.clear()

    def new(self, profile: Profile, call: Call, secret: Secret | None) -> Link:
        """A link for a call that is up."""
        return Link(self._for(profile, call, secret), _random)

    def restored(
        self, profile: Profile, call: Call, secret: Secret | None, state: Mapping[str, Any], now: float
    ) -> Link:
        """The link of a session that goes on. Raises ValueError, TypeError, KeyError for a state that is none."""
        return Link.restore(self._for(profile, call, secret), _random, dict(state), now)

    def _for(self, profile: Profile, call: Call, secret: Secret | None) -> LinkSettings:
        ipv6 = len(call.tunnel.peer[0]) == 16
        key = (profile.name, isinstance(profile, LnsSpec), ipv6, sequenced(profile, call))
        found = self._settings.get(key)
        if found is None:
            found = self._settings[key] = _settings(profile, secret, ipv6=ipv6, sequencing=key[3])
        return found


def _settings(profile: Profile, secret: Secret | None, *, ipv6: bool, sequencing: bool) -> LinkSettings:
    ppp = profile.ppp
    demanding = demands(profile)
    return LinkSettings(
        name=profile.user if isinstance(profile, LacSpec) and profile.user else ppp_name(profile),
        secret=secret,
        demand=ppp.auth if demanding else (),
        answer=() if demanding else ppp.auth,
        mru=network.mru(profile, ipv6=ipv6, sequencing=sequencing),
        restart=ppp.restart,
        max_configure=ppp.max_configure,
        max_terminate=ppp.max_terminate,
        max_failure=ppp.max_failure,
        echo_interval=ppp.echo_interval,
        echo_failures=ppp.echo_failures,
        auth_timeout=ppp.auth_timeout,
        rechallenge=ppp.rechallenge,
    )


def ipv4_settings(profile: Profile, grant: Grant) -> Ipv4Settings | None:
    """What IPCP is to bring about; None: nothing."""
    if demands(profile):
        if not grant.peer:
            return None
        dns = tuple(address for address in grant.dns if len(address) == 4)
        return Ipv4Settings(local=grant.local, peer=grant.peer, dns=dns, nbns=profile.ppp.nbns)
    if not profile.ppp.ipv4:
        return None
    return Ipv4Settings(local=profile.ppp.local_address, accept_local=True, accept_peer=True, request_dns=True)


def ipv6_settings(profile: Profile, grant: Grant) -> Ipv6Settings | None:
    """What IPv6CP is to bring about; None: nothing."""
    if not profile.ppp.ipv6:
        return None
    return Ipv6Settings(local_iid=grant.local_iid, peer_iid=grant.peer_iid)
