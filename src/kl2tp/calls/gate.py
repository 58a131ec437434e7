"""Who may come in: users and their secrets, and what guessing costs."""

import socket
from collections import Counter
from dataclasses import dataclass
from functools import cache

from kl2tp.access.throttle import Throttle
from kl2tp.access.users import User, Users
from kl2tp.calls.session import Session
from kl2tp.model.calls import LacSpec, LnsSpec, UsersSpec
from kl2tp.model.objects import Secret
from kl2tp.ppp.auth.protocol import Attempt

_NOBODY = Secret(b"\0" * 16)
"""Compared with where there is no such user: so that takes as long as a wrong password."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an attempt to log in."""

    user: User | None
    """None: refused."""
    why: str = ""
    """For the journal; the peer learns less."""
    delay: float = 0.0
    """Seconds that the refusal has to take."""


def ppp_name(profile: LnsSpec | LacSpec) -> str:
    """Who we say we are in PPP, and the server of chap-secrets."""
    return profile.ppp.name or profile.control.host_name or host_name()


@cache
def host_name() -> str:
    """What this host is called."""
    return socket.gethostname()


class Gate:
    """Judges attempts to log in."""

    def __init__(self, spec: UsersSpec) -> None:
        self.users = Users()
        self._spec = spec
        self._throttle = _throttle(spec)
        self._sessions: Counter[str] = Counter()
        """Sessions by user."""

    def configure(self, spec: UsersSpec) -> None:
        """Take new limits."""
        if spec != self._spec:
            self._spec, self._throttle = spec, _throttle(spec)

    def judge(self, session: Session, attempt: Attempt, now: float) -> Verdict:
        """Whether an attempt succeeds."""
        source, identity = session.peer.tunnel.peer[0], attempt.identity
        if (wait := self._throttle.wait(source, identity, now)) > 0:
            return Verdict(None, "too many failures lately; not looked at", wait)
        user = self.users.lookup(identity, ppp_name(session.profile))
        secret = user.secret if user is not None else _NOBODY
        right = attempt.verify(secret.reveal())
        if user is None or not right:
            why = "no such user" if user is None else "wrong password"
            return Verdict(None, why, self._throttle.failed(source, identity, now))
        self._throttle.succeeded(source, identity)
        limit = user.limit or (session.profile.sessions_per_user if isinstance(session.profile, LnsSpec) else 0)
        others = self._sessions[identity] - (session.counted == identity)
        if limit and others >= limit:
            return Verdict(None, f"the user has {limit} sessions already, as many as allowed")
        return Verdict(user)

    def entered(self, identity: str) -> None:
        """A session of this user begins."""
        self._sessions[identity] += 1

    def left(self, identity: str) -> None:
        """One has ended."""
        self._sessions[identity] -= 1
        if self._sessions[identity] <= 0:
            del self._sessions[identity]


def _throttle(spec: UsersSpec) -> Throttle:
    return Throttle(spec.refusal_delay, spec.refusals, spec.refusal_time)
