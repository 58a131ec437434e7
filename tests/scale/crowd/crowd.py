"""Callers by the thousand: the loop that feeds them, paces them, times them, and counts what became of them."""

import collections
import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kl2tp.model.addr import parse
from scale.crowd.messages import CONTROL_HEADER, DATA
from scale.crowd.session import DOWN, STATES, UP, Session
from scale.crowd.tunnel import GONE, Tunnel
from scale.crowd.wire import CALLERS, HEADER, Path, Wire

AT_ONCE = 64
"""Calls that are being set up, or taken down, at the same time."""
_PPP_RESTART_S, _PPP_TRIES = 3.0, 6
_CHECK_S = 0.25
"""How often PPP's requests are looked at."""
PASSWORD = "pw{:05}"
USER = "u{:05}"
_FIRST = int.from_bytes(parse(CALLERS)) + 0x100
_DATA_FF03 = b"\xff\x03"


@dataclass(slots=True)
class Outcome:
    """What became of a batch of calls."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the callers, that is: of this process."""
    done: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """How many for each reason."""
    latencies_s: list[float] = field(default_factory=list)
    """From the first message of each call until it had its addresses."""

    @property
    def rate(self) -> float:
        """Per second."""
        return self.done / self.wall_s if self.wall_s else 0.0

    def quantile(self, share: float) -> float:
        """The latency that this share of the calls did not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Crowd:
    """Callers on a wire: each tunnel has an address of its own."""

    def __init__(self, wire: Wire, *, ipv6: bool = False, tunnel_secret: str = "", at_once: int = AT_ONCE) -> None:
        self.wire, self.ipv6, self.at_once = wire, ipv6, at_once
        self.tunnel_secret = tunnel_secret.encode()
        self.out: list[bytes] = []
        self.owing: list[Tunnel] = []
        self.tunnels: dict[int, Tunnel] = {}
        self.sessions: dict[int, Session] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self.now = time.monotonic()
        self._alarms: list[tuple[float, int, Tunnel]] = []
        self._check_at = 0.0
        self._busy: set[Session] = set()
        """Being set up or taken down."""
        self._outcome = Outcome()
        self._numbers = [0, 0]

    # -- who there is ----------------------------------------------------------------------------------------------

    @staticmethod
    def user(number: int) -> bytes:
        """The name of the user of the session with that number, from 0."""
        return USER.format(number).encode()

    @staticmethod
    def secret_of(number: int) -> bytes:
        """That user's password."""
        return PASSWORD.format(number).encode()

    def add(self, tunnels: int, sessions: int = 1) -> list[Session]:
        """More callers, silent as yet: that many tunnels with that many sessions each."""
        added = []
        for _ in range(tunnels):
            number = self._numbers[0]
            tunnel = Tunnel(self, number, Path((_FIRST + number).to_bytes(4)))
            self.tunnels[tunnel.id] = tunnel
            self._numbers[0] += 1
            for _ in range(sessions):
                session = Session(self, self._numbers[1], tunnel)
                self._numbers[1] += 1
                tunnel.sessions[session.id] = self.sessions[session.id] = session
                added.append(session)
        return added

    def add_to(self, tunnel: Tunnel) -> Session:
        """One more caller in a tunnel that is there."""
        session = Session(self, self._numbers[1], tunnel)
        self._numbers[1] += 1
        tunnel.sessions[session.id] = self.sessions[session.id] = session
        return session

    def up(self) -> list[Session]:
        """The sessions that are up."""
        return [session for session in self.sessions.values() if session.state == UP]

    def states(self) -> dict[str, int]:
        """How many sessions there are in each state."""
        return dict(collections.Counter(STATES[session.state] for session in self.sessions.values()))

    # -- what they do ----------------------------------------------------------------------------------------------

    def dial(self, sessions: Sequence[Session], within: float) -> Outcome:
        """Set these calls up."""

        def begin(session: Session) -> None:
            session.began = self.now
            session.tunnel.call(session)

        return self._do(sessions, begin, within)

    def hang_up(self, sessions: Sequence[Session], within: float) -> Outcome:
        """End these calls politely, and the tunnels that are empty then."""
        tunnels = {session.tunnel for session in sessions}
        outcome = self._do(sessions, Session.hang_up, within)
        self._wait_gone([tunnel for tunnel in tunnels if not tunnel.sessions], within)
        return outcome

    def stop(self, tunnels: Sequence[Tunnel], within: float) -> Outcome:
        """End these tunnels with all that is in them: StopCCN."""
        began, cpu = time.monotonic(), time.process_time()
        for start in range(0, len(tunnels), self.at_once):
            batch = tunnels[start : start + self.at_once]
            for tunnel in batch:
                tunnel.stop()
            self._wait_gone(list(batch), within)
        return Outcome(time.monotonic() - began, time.process_time() - cpu, len(tunnels))

    def _wait_gone(self, tunnels: list[Tunnel], within: float) -> None:
        """Until the server has acknowledged the end of these tunnels."""

        def gone() -> bool:
            while tunnels and tunnels[-1].state == GONE:
                tunnels.pop()
            return not tunnels

        self.run(gone, within)

    def ping(self, sessions: Sequence[Session], count: int = 1, within: float = 20.0) -> int:
        """Send so many packets through each session to the server; how many were not answered."""
        wanted = self.counts["pongs"]
        for number in range(count):
            for session in sessions:
                session.ping(number)
                wanted += 1
                if len(self.out) >= self.at_once:
                    self._wait_pongs(wanted, within)
        self._wait_pongs(wanted, within)
        return wanted - self.counts["pongs"]

    def _wait_pongs(self, wanted: int, within: float) -> None:
        self.run(lambda: self.counts["pongs"] >= wanted, within)

    def _do(self, sessions: Sequence[Session], begin: Callable[[Session], None], within: float) -> Outcome:
        self._outcome = outcome = Outcome()
        began, cpu = time.monotonic(), time.process_time()
        queue = collections.deque(sessions)
        busy = self._busy
        busy.clear()

        def advance() -> bool:
            while queue and len(busy) < self.at_once:
                session = queue.popleft()
                if session.state != DOWN:
                    busy.add(session)
                    begin(session)
            return not queue and not busy

        self.run(advance, within)
        outcome.wall_s, outcome.cpu_s = time.monotonic() - began, time.process_time() - cpu
        for session in (*busy, *queue):
            self._count_failure(f"stuck: {STATES[session.state]}")
        return outcome

    def _count_failure(self, reason: str) -> None:
        failed = self._outcome.failed
        failed[reason] = failed.get(reason, 0) + 1

    # -- what they tell --------------------------------------------------------------------------------------------

    def session_up(self, session: Session) -> None:
        session.up_at = self.now
        self._busy.discard(session)
        self._outcome.done += 1
        self._outcome.latencies_s.append(self.now - session.began)

    def session_down(self, session: Session, before: int, reason: str) -> None:
        self.counts["lost"] += before == UP and bool(reason)
        if session in self._busy:
            self._busy.discard(session)
            if reason:
                self._count_failure(reason)
            else:
                self._outcome.done += 1

    def tunnel_gone(self, tunnel: Tunnel) -> None:
        self.counts["tunnels_gone"] += 1

    def alarm(self, tunnel: Tunnel) -> None:
        """Have a tunnel's timeout looked at when it is due."""
        heapq.heappush(self._alarms, (tunnel.due, tunnel.id, tunnel))

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool], within: float) -> bool:
        """Receive, answer and repeat until something is so; whether it became so in time."""
        deadline = time.monotonic() + within
        while True:
            self.now = time.monotonic()
            frames = self.wire.receive()
            for frame in frames:
                self._take(frame)
            self._timers()
            done = until()
            self._flush()
            if done or self.now > deadline:
                return done
            if not frames:
                self.wire.wait(min(self._next() - self.now, deadline - self.now) + 0.001)

    def _take(self, frame: bytes) -> None:
        if frame[23] != 17:
            self.counts["strange_frames"] += 1
            return
        if frame[HEADER] & 0x80:
            _, size, tunnel_id, session_id, ns, nr = CONTROL_HEADER.unpack_from(frame, HEADER)
            if tunnel := self.tunnels.get(tunnel_id):
                tunnel.take(frame, size, session_id, ns, nr)
            return
        flags, _, session_id, mark, protocol = DATA.unpack_from(frame, HEADER)
        session = self.sessions.get(session_id)
        if flags == 2 and mark == 0xFF03 and session:
            session.take(frame, HEADER + 10, protocol)
        else:
            self.counts["strange_frames"] += 1

    def _flush(self) -> None:
        if self.owing:
            for tunnel in self.owing:
                tunnel.acknowledge()
            self.owing = []
        if self.out:
            out, self.out = self.out, []
            self.wire.send(out)

    def _next(self) -> float:
        return min(self._check_at, self._alarms[0][0]) if self._alarms else self._check_at

    def _timers(self) -> None:
        while self._alarms and self._alarms[0][0] <= self.now:
            _, _, tunnel = heapq.heappop(self._alarms)
            if tunnel.unacked and tunnel.due <= self.now:
                tunnel.timeout()
            elif tunnel.unacked:
                self.alarm(tunnel)
        if self._check_at <= self.now:
            self._check_at = self.now + _CHECK_S
            self._repeat()

    def _repeat(self) -> None:
        """PPP's restart timer."""
        for session in list(self._busy):
            if session.last and session.sent_at + _PPP_RESTART_S <= self.now:
                if session.tries >= _PPP_TRIES:
                    session.end(f"no answer: {STATES[session.state]}")
                    continue
                self.counts["ppp_repeats"] += 1
                self.counts[f"repeated in {STATES[session.state]}"] += 1
                session.repeat()
