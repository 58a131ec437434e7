"""Beginning IKE where we are to: one connection each, with back-off and jitter, and never all at once.

charon tells the end of an attempt by events most of the time, by its log some of the time, and not at all sometimes;
so an attempt is also looked at now and then. A new IKE SA beside an old one (a renewal) is an attempt like others.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from kl2tp.ipsec.ike.negotiation import IkeSa
from kl2tp.ipsec.ike.wanted import Wanted
from kl2tp.ipsec.vici import CharonError, CommandError
from kl2tp.wire.vici import ViciError

_log = logging.getLogger("kl2tp.ike")
FIRST_S, CAP_S = 2.0, 60.0
"""Wait after the first failure, doubled with each further one up to the cap."""
PEER_FIRST_S = 12.0
"""How long the end that does not come first gives the other to begin."""
STEADY_S = 30.0
"""What was up for so long was no failure when it ends."""
AT_ONCE = 32
"""Attempts that begin at the same time; one that has no answer yet makes room after `SLOT_S`."""
SLOT_S = 3.0
LOOKS_S = (4.0, 6.0, 15.0, 35.0, 60.0)
"""After how long an attempt under way is looked at, and then again; the last one goes on."""
LINGER_S = 5.0
"""How long the old IKE SA stays beside the new one, for packets on the way."""


class Agent(Protocol):
    """What one attempt needs of the supervisor."""

    slots: asyncio.Semaphore

    def can_begin(self, name: str) -> bool:
        """Whether charon answers and has the connection."""

    def is_live(self, name: str) -> bool:
        """Whether charon has an IPsec SA for it."""

    def under_way(self, name: str) -> bool:
        """Whether something is being negotiated."""

    def ike_sas(self, name: str) -> tuple[IkeSa, ...]:
        """The IKE SAs it has."""

    def has_child(self, name: str, ike_id: int) -> bool:
        """Whether there is an IPsec SA below that IKE SA."""

    async def look(self, name: str) -> None:
        """Ask charon what it has of it."""

    async def initiate(self, name: str) -> None:
        """Begin. Raises CharonError, CommandError."""

    async def load_renewed(self, name: str) -> None:
        """Have the next attempt begin with an IKE SA of its own. Raises CharonError, CommandError."""

    async def end_ike(self, ike_id: int) -> None:
        """End an IKE SA. Raises CharonError."""

    def tried(self, name: str) -> None:
        """Something about the tries is another than before."""


class Trying:
    """The tries of one connection that we are to begin."""

    def __init__(self, want: Wanted, agent: Agent) -> None:
        self.name = want.name
        self.want = want
        self.failed = 0
        """Failed tries since it was last up for a while."""
        self.next_try: float | None = None
        """Seconds since 1970."""
        self._agent = agent
        self._pulse = asyncio.Event()
        self._ended = self._hurry = self._renew = False
        self._live_since: float | None = None
        self._missed_since = 0.0
        self._unrenewed = 0
        """Renewals that failed one after the other."""
        self._share = random.uniform(0.9, 1.0)
        """Of its lifetime after which an IKE SA is renewed."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())

    # --- what happens around it

    def pulse(self, *, ended: bool = False) -> None:
        """Something about the connection has changed; `ended`: an attempt of it is over, most likely."""
        self._ended = self._ended or ended
        self._pulse.set()

    def retry(self) -> None:
        """Begin at once."""
        self._hurry = True
        self._pulse.set()

    def renew(self) -> None:
        """Make a new IKE SA in place of the one there is."""
        self._renew = True
        self._pulse.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self._task.cancel()

    # --- one after the other

    async def _run(self) -> None:
        while True:
            try:
                await self._step()
            except (CommandError, CharonError, ViciError):
                await asyncio.sleep(0)  # charon has gone, as it will be said in a moment
            except Exception:  # a fault of ours costs one try
                _log.exception("%s: a try ended by a fault", self.name)
                self._fail()
                await self._wait(_back_off(self.failed))

    async def _step(self) -> None:
        """What is to do now."""
        self._pulse.clear()
        if not self._agent.can_begin(self.name):
            self._set_next(None)
            await self._pulse.wait()
        elif self._agent.is_live(self.name):
            await self._be_live()
        elif self._agent.under_way(self.name):
            if not await self._outcome(lambda: self._agent.is_live(self.name)):
                self._fail()
        else:
            await self._begin()

    async def _be_live(self) -> None:
        """Until something changes, or it is time to authenticate anew."""
        now = self._loop.time()
        if self._live_since is None:
            self._live_since = now
            self._hurry = False
            self._set_next(None)
        due = self._renewal_due()
        if self._renew or (due is not None and due <= 0):
            await self._renewal()
            return
        steady = self._live_since + STEADY_S - now if self.failed else None
        if steady is not None and steady <= 0:
            self.failed = 0
            return
        await self._wait(min((wait for wait in (due, steady) if wait is not None), default=None))

    def _lost(self) -> None:
        """It was live and is no more."""
        if self._live_since is not None:
            if self._loop.time() - self._live_since >= STEADY_S:
                self.failed = 0
            elif self.failed:
                self.failed += 1
            self._live_since = None
        if not self._missed_since:
            self._missed_since = self._loop.time()

    async def _begin(self) -> None:
        """Wait for the time of the next try, then try, unless something happens before."""
        self._lost()
        wait = self._delay()
        deadline = self._loop.time() + wait
        self._set_next(time.time() + wait)
        while not self._hurry and (left := deadline - self._loop.time()) > 0:
            self._pulse.clear()
            await self._wait(left)
            if self._busy_or_live() or not self._agent.can_begin(self.name):
                return
        self._hurry = False
        if self._busy_or_live() or not self._agent.can_begin(self.name):
            return
        self._set_next(None)
        if await self._attempt(lambda: self._agent.is_live(self.name)):
            self._missed_since = 0.0
        elif self._agent.can_begin(self.name):
            self._fail()

    def _busy_or_live(self) -> bool:
        return self._agent.is_live(self.name) or self._agent.under_way(self.name)

    def _fail(self) -> None:
        self.failed += 1
        self._agent.tried(self.name)

    def _delay(self) -> float:
        """Seconds until the next try."""
        if self.failed:
            return _back_off(self.failed)
        if not self.want.first:
            patience = PEER_FIRST_S * random.uniform(0.75, 1.25)
            return max(0.0, self._missed_since + patience - self._loop.time())
        return 0.0

    async def _attempt(self, done: Callable[[], bool]) -> bool:
        """One try; whether it led to something."""
        self._ended = False
        try:
            async with self._agent.slots:
                if done():
                    return True
                await self._agent.initiate(self.name)
                over = await self._soon(done)
            return done() if over and done() else await self._outcome(done)
        except (CommandError, CharonError, ViciError):
            return False

    async def _soon(self, done: Callable[[], bool]) -> bool:
        """Whether it was decided within the time for which an attempt keeps its slot."""
        until = self._loop.time() + SLOT_S
        while (left := until - self._loop.time()) > 0:
            self._pulse.clear()
            await self._wait(left)
            if done() or self._ended:
                return True
        return False

    async def _outcome(self, done: Callable[[], bool]) -> bool:
        """Wait until an attempt is decided; look, when it seems over and now and then."""
        for number in range(1_000_000):
            if done():
                return True
            self._pulse.clear()
            if not self._ended:
                await self._wait(LOOKS_S[min(number, len(LOOKS_S) - 1)])
            if done():
                return True
            self._ended = False
            if not self._agent.can_begin(self.name):
                return False
            await self._agent.look(self.name)
            if not done() and not self._agent.under_way(self.name):
                return False
        return False

    async def _wait(self, seconds: float | None) -> None:
        """For a pulse, or so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._pulse.wait()
        except TimeoutError:
            pass

    def _set_next(self, when: float | None) -> None:
        if when != self.next_try:
            self.next_try = when
            self._agent.tried(self.name)

    # --- anew

    def _renewal_due(self) -> float | None:
        """Seconds until we authenticate anew; None: never."""
        lifetime = self.want.spec.reauth_time
        established = [sa.since for sa in self._agent.ike_sas(self.name) if sa.established]
        if not lifetime or not established:
            return None
        return max(established) + lifetime * self._share - time.time()

    async def _renewal(self) -> None:
        """A new IKE SA beside those there are, which end when it has an IPsec SA."""
        self._renew = False
        agent, name = self._agent, self.name
        old = {sa.unique_id for sa in agent.ike_sas(name)}

        def done() -> bool:
            return any(sa.unique_id not in old and agent.has_child(name, sa.unique_id) for sa in agent.ike_sas(name))

        try:
            await agent.load_renewed(name)
            if await self._attempt(done):
                self._live_since = self._loop.time()
                self._unrenewed = 0
                await self._pause(LINGER_S)
                await self._end(old)
                return
        except (CommandError, CharonError, ViciError):
            pass
        self._renew = True
        self._unrenewed += 1
        await self._pause(_back_off(self._unrenewed))

    async def _end(self, ike_ids: set[int]) -> None:
        for ike_id in sorted(ike_ids & {sa.unique_id for sa in self._agent.ike_sas(self.name)}):
            await self._agent.end_ike(ike_id)

    async def _pause(self, seconds: float) -> None:
        """So long, or until it is live no more."""
        until = self._loop.time() + seconds
        while (left := until - self._loop.time()) > 0 and self._agent.is_live(self.name):
            self._pulse.clear()
            await self._wait(left)


def _back_off(failed: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return float(min(FIRST_S * 2 ** min(failed - 1, 16), CAP_S)) * random.uniform(0.75, 1.25)
