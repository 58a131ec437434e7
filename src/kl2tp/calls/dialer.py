"""Calls that we place and keep: server after server, ever more slowly, never all at the same moment."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from kl2tp.calls.session import Peer, Session
from kl2tp.control.profiles import Peer as Remote
from kl2tp.control.profiles import Place, client_of
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.udp import open_connected, source_for
from kl2tp.model.addr import text
from kl2tp.model.calls import LacSpec

if TYPE_CHECKING:
    from kl2tp.control.call import Call
    from kl2tp.control.endpoint import Endpoint
    from kl2tp.control.tunnel import Tunnel

_log = logging.getLogger("kl2tp.calls")
_STEADY_S = 30.0
"""A session that was up for so long is no failure when it ends."""


class Secured(NamedTuple):
    """How far IKE is with the server of a call."""

    ready: bool
    problem: str
    """In words; "" while it is under way."""
    tries: int
    """Failed ones."""


class Dial:
    """One call that is to be kept."""

    __slots__ = (
        *("call", "failures", "handle", "problem", "server", "session", "spec", "stopped", "tries", "waiting"),
    )

    def __init__(self, spec: LacSpec) -> None:
        self.spec = spec
        self.server = 0
        """Which of the servers is tried."""
        self.tries = 0
        """Failed rounds through all servers."""
        self.call: Call | None = None
        self.session: Session | None = None
        self.handle: asyncio.TimerHandle | None = None
        self.problem = ""
        self.stopped = False
        self.waiting = False
        """Whether it is IPsec that it waits for, which tells when it is there."""
        self.failures = -1
        """Of IKE with this server, when we began to wait; -1: we did not."""

    @property
    def state(self) -> str:
        """In a word or three."""
        if self.session is not None:
            return self.session.phase.value
        return "stopped" if self.stopped else "waiting for IKE" if self.waiting else "dialing"


class Dialer:
    """All calls that we place."""

    def __init__(
        self,
        endpoint: "Endpoint",
        turn: Callable[[], None],
        adopt: Callable[[Peer, socket.socket], None],
        unprotected: Callable[[LacSpec], str | None] = lambda spec: None,
    ) -> None:
        """`turn` has what was begun sent; `adopt` listens on a tunnel's own socket; `unprotected` says why the packets
        of a call would not be protected yet."""
        self.dials: dict[str, Dial] = {}
        self._endpoint = endpoint
        self._turn, self._adopt = turn, adopt
        self._loop = asyncio.get_running_loop()
        self._unprotected = unprotected
        self.secured: Callable[[LacSpec, Place], Secured] = lambda spec, server: Secured(False, "there is no IKE", 0)
        """Has IKE see to a server, and says how far it is."""
        self._shared: dict[tuple[Remote, Place, str], Tunnel] = {}

    def configure(self, specs: Iterable[LacSpec], adopted: dict[str, Session]) -> list[Session]:
        """Keep these from now on; the sessions that are wanted no longer, or in another way."""
        wanted = {spec.name: spec for spec in specs}
        ended = []
        for name, dial in list(self.dials.items()):
            if wanted.get(name) != dial.spec:
                self._stop(dial)
                del self.dials[name]
                if dial.session is not None:
                    ended.append(dial.session)
        for name, spec in wanted.items():
            if name in self.dials:
                continue
            dial = self.dials[name] = Dial(spec)
            if (session := adopted.get(name)) is not None:
                dial.session, dial.call = session, session.call
                session.call.owner = dial
            else:
                dial.handle = self._loop.call_later(random.uniform(0, min(1.0, len(wanted) / 200)), self._dial, dial)
        return ended

    def stop(self) -> None:
        """Place no more calls."""
        for dial in self.dials.values():
            self._stop(dial)

    @staticmethod
    def _stop(dial: Dial) -> None:
        dial.stopped, dial.waiting = True, False
        if dial.handle is not None:
            dial.handle.cancel()
            dial.handle = None

    def dial_of(self, call: "Call") -> Dial | None:
        """The dial that placed a call."""
        return call.owner if isinstance(call.owner, Dial) else None

    # -- placing ---------------------------------------------------------------------------------------------------

    def _dial(self, dial: Dial) -> None:
        dial.handle = None
        spec = dial.spec
        server = spec.remotes[dial.server]
        if self._waits(dial, server):
            return
        remote: Remote = (*server, spec.ike.reqid) if spec.ike is not None else server
        now = self._loop.time()
        try:
            local = (spec.local[0] or source_for(server), spec.local[1])
        except OSError as error:
            self._failed(dial, f"no way to {text(server[0])}: {error}")
            return
        tunnel = self._existing(spec, remote, local)
        if tunnel is None:
            try:
                tunnel = self._connect(spec, remote, local, now)
            except KernelError as error:
                self._failed(dial, str(error))
                return
            if not spec.own_tunnel and tunnel.id:
                self._shared[remote, local, spec.control.secret_file] = tunnel
        if not tunnel.id:
            self._failed(dial, "all tunnel ids are in use")
            return
        self._place(dial, tunnel, now)
        self._turn()

    def _waits(self, dial: Dial, server: Place) -> bool:
        """Whether a call has to wait for IPsec; where that fails, it is another server's turn if there is one."""
        spec, dial.waiting = dial.spec, False
        if spec.ike is None:
            return False
        problem = self._unprotected(spec)
        if problem is None:
            found = self.secured(spec, server)
            if found.ready:
                dial.failures = -1
                return False
            problem = found.problem
            dial.failures = found.tries if dial.failures < 0 else min(dial.failures, found.tries)
            if found.tries > dial.failures and (len(spec.remotes) > 1 or not spec.persist):
                self._failed(dial, f"IKE with {text(server[0])}: {problem}")
                return True
        dial.waiting, dial.problem = True, problem
        return True

    def look(self, name: str = "") -> None:
        """See whether a call need not wait for IPsec any longer; without a name, all of them."""
        dial = self.dials.get(name)
        for waiting in [dial] if dial is not None else [*self.dials.values()] if not name else []:
            if waiting.waiting:
                self._dial(waiting)

    def _connect(self, spec: LacSpec, remote: Remote, local: Place, now: float) -> "Tunnel":
        """Open a tunnel; from a port of the kernel's choice where no port is given. What IPsec protects has a socket of
        its own from the start. Raises KernelError."""
        if local[1] and not client_of(remote):
            return self._endpoint.connect(spec, remote, local, now)
        sock = open_connected(local, (remote[0], remote[1]), reqid=client_of(remote))
        local = (local[0], int(sock.getsockname()[1]))
        tunnel = self._endpoint.connect(spec, remote, local, now)
        tunnel.owner = peer = Peer(tunnel)
        self._adopt(peer, sock)
        return tunnel

    def _existing(self, spec: LacSpec, remote: Remote, local: Place) -> "Tunnel | None":
        key = (remote, local, spec.control.secret_file)
        tunnel = None if spec.own_tunnel else self._shared.get(key)
        if tunnel is not None and self._endpoint.tunnels.get(tunnel.id) is tunnel and not tunnel.closing:
            return tunnel
        self._shared.pop(key, None)
        return None

    def _place(self, dial: Dial, tunnel: "Tunnel", now: float) -> None:
        """Place a call; it waits for its tunnel."""
        spec = dial.spec
        sequencing = spec.send_sequence or spec.require_sequence
        dial.call = self._endpoint.place_call(
            tunnel, now, outgoing=spec.outgoing, called_number=spec.called_number, sequencing=sequencing
        )
        dial.call.owner = dial

    def call_down(self, call: "Call", reason: str) -> None:
        """A call did not come up, or ended before it had a session."""
        dial = self.dial_of(call)
        if dial is not None and dial.call is call and dial.session is None:
            self._failed(dial, reason)

    def session_over(self, session: Session) -> None:
        """A session has ended and everything of it is taken away."""
        dial = self.dial_of(session.call)
        if dial is None or dial.session is not session:
            return
        dial.session = None
        if session.up_since and time.time() - session.up_since >= _STEADY_S:
            dial.server = dial.tries = 0
        self._failed(dial, session.reason)

    def _failed(self, dial: Dial, reason: str) -> None:
        """Try the next server; after the last one wait, ever longer."""
        dial.call, dial.problem, dial.failures = None, reason, -1
        if dial.stopped:
            return
        spec = dial.spec
        dial.server = (dial.server + 1) % len(spec.remotes)
        wait = 0.0
        if dial.server == 0:
            dial.tries += 1
            if not spec.persist:
                self._stop(dial)
                _log.error("%s: %s; not tried again", spec.name, reason)
                return
            wait = min(spec.retry_first * 2 ** min(dial.tries - 1, 16), spec.retry_cap) * random.uniform(0.75, 1.25)
        _log.warning("%s: %s; next try in %.1f s", spec.name, reason, wait)
        dial.handle = self._loop.call_later(wait, self._dial, dial)
