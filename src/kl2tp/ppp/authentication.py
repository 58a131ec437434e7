"""Both sides' authentication on one link, as long as it lasts: who is to prove what, and whether that is done."""

from kl2tp.ppp import auth
from kl2tp.ppp.auth.eap_peer import EapSupplicant
from kl2tp.ppp.auth.protocol import Attempt, Authenticator, Supplicant
from kl2tp.ppp.automaton import Frames
from kl2tp.ppp.lcp import LinkSettings, Proposal, Random
from kl2tp.wire.ppp import Protocol

_FOR_AUTHENTICATOR = {Protocol.PAP: 1, Protocol.CHAP: 2, Protocol.EAP: 2}
"""The one code that the side that demands gets: Authenticate-Request, Response. All others are for the other side."""
CHALLENGE = 1
"""Code of a packet of CHAP or EAP that wants us to authenticate ourselves."""


class Authentication:
    """What was agreed upon in LCP, on its way to a result."""

    __slots__ = (
        *("_again", "_announced", "_authenticator", "_demanded", "_expected", "_expires", "_problem", "_settings"),
        "_supplicant",
    )

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._authenticator: Authenticator | None = None
        self._demanded = 0
        """The protocol in which the peer authenticates itself..."""
        self._supplicant: Supplicant | None = None
        self._expected = 0
        """...and the one in which we do."""
        self._announced: Attempt | None = None
        self._expires: float | None = None
        self._problem = ""
        """Why we cannot even try."""
        self._again = False
        """We are in, and the peer makes sure: it repeats its challenge if it must, so nothing waits for it here."""

    def demand(self, proposal: Proposal, random: Random, now: float, out: Frames) -> None:
        """The peer has to prove who it is."""
        settings = self._settings
        self._demanded = proposal.protocol
        self._authenticator = auth.make_authenticator(
            proposal.methods,
            settings.name,
            random,
            tries=settings.max_configure,
            timeout=settings.restart,
            interval=settings.rechallenge,
        )
        self._authenticator.start(now)
        self._begin(now, out)

    def go_on(self, proposal: Proposal, identity: str, random: Random, now: float) -> None:
        """The peer has proved who it is, to an earlier process: it will have to again."""
        settings = self._settings
        self._demanded = proposal.protocol
        self._authenticator = auth.make_authenticator(
            proposal.methods,
            settings.name,
            random,
            tries=settings.max_configure,
            timeout=settings.restart,
            interval=settings.rechallenge,
        )
        self._authenticator.go_on(identity, now)

    @property
    def goes_on(self) -> bool:
        """Whether the peer is in, and will be asked again."""
        can_ask = self._settings.rechallenge > 0 and self._demanded != Protocol.PAP
        return can_ask and self._authenticator is not None and self._authenticator.result is True

    def answer(self, proposal: Proposal, random: Random, now: float, out: Frames, *, again: bool = False) -> None:
        """We have to. `again`: as we did before, and the peer only wants to make sure."""
        settings = self._settings
        assert settings.secret is not None
        self._expected = proposal.protocol
        try:
            self._supplicant = auth.make_supplicant(
                proposal.methods,
                settings.name,
                settings.secret,
                random,
                tries=settings.max_configure,
                timeout=settings.restart,
            )
        except ValueError as error:
            self._problem = str(error)
            return
        self._again = again
        if not again:
            self._supplicant.start(now)
            self._begin(now, out)

    def _begin(self, now: float, out: Frames) -> None:
        self._expires = now + self._settings.auth_timeout
        self._flush(out)

    # -- how far is it? --------------------------------------------------------------------------------------------

    @property
    def result(self) -> bool | None:
        """None: somebody has still something to prove. True: nobody. False: `reason` says why."""
        if self._problem:
            return False
        results = self._results()
        if False in results:
            return False
        return None if None in results and not self._again else True

    def _results(self) -> list[bool | None]:
        return [side.result for side in (self._authenticator, self._supplicant) if side is not None]

    @property
    def is_over(self) -> bool:
        """Whether both sides have said their last word."""
        return None not in self._results()

    @property
    def reason(self) -> str:
        """Why the result is False."""
        if self._problem:
            return self._problem
        if self._supplicant is not None and self._supplicant.result is False:
            return self._supplicant.reason
        return f"{self.identity!r} was not let in" if self.identity else "the peer did not say who it is"

    @property
    def identity(self) -> str | None:
        """Who the peer says it is; None: it need not."""
        return self._authenticator.identity if self._authenticator is not None else None

    @property
    def attempt(self) -> Attempt | None:
        """What waits for a verdict."""
        return self._authenticator.attempt if self._authenticator is not None else None

    def news(self) -> Attempt | None:
        """An attempt that was not told of yet."""
        attempt = self.attempt
        if attempt is None or attempt is self._announced:
            return None
        self._announced = attempt
        return attempt

    def speaks(self, protocol: int) -> bool:
        """Whether either side goes by this protocol."""
        return protocol in (self._demanded, self._expected)

    # -- input -----------------------------------------------------------------------------------------------------

    def receive(self, protocol: int, information: bytes, now: float, out: Frames) -> None:
        """Take a packet of PAP, CHAP or EAP."""
        if not information:
            return
        if information[0] == _FOR_AUTHENTICATOR[Protocol(protocol)]:
            if self._authenticator is not None and protocol == self._demanded:
                self._authenticator.receive(information, now)
        elif self._supplicant is not None and protocol == self._expected:
            self._supplicant.receive(information, now)
        self._flush(out)

    def network_seen(self, now: float) -> None:
        """The peer is content with us, or it would not have begun with a network protocol: EAP knows no other way to
        make up for a Success that got lost (RFC 3748 4.2)."""
        if isinstance(self._supplicant, EapSupplicant):
            self._supplicant.network_seen(now)

    def verdict(self, ok: bool, message: str, now: float, out: Frames) -> None:
        """Answer the attempt that waits."""
        if self._authenticator is not None:
            self._authenticator.verdict(ok, message, now)
            self._expires = now + self._settings.auth_timeout
        self._flush(out)

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called."""
        if self._again:
            return None
        deadlines = [side.deadline for side in (self._authenticator, self._supplicant) if side is not None]
        if self.result is None and self.attempt is None:
            deadlines.append(self._expires)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timer(self, now: float, out: Frames) -> bool:
        """Look at the time; False: it is up."""
        if self._again:
            return True
        for side in (self._authenticator, self._supplicant):
            if side is not None and side.deadline is not None and side.deadline <= now:
                side.handle_timer(now)
        self._flush(out)
        late = self._expires is not None and now >= self._expires
        return not (late and self.result is None and self.attempt is None)

    def _flush(self, out: Frames) -> None:
        if self._authenticator is not None:
            protocol = self._demanded.to_bytes(2, "big")
            out.extend(protocol + frame for frame in self._authenticator.take_frames())
        if self._supplicant is not None:
            protocol = self._expected.to_bytes(2, "big")
            out.extend(protocol + frame for frame in self._supplicant.take_frames())
