"""Calls that we place and keep: server after server, ever more slowly, never all at the same moment."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from kl2tp.calls.session import Peer, Session
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.udp import open_connected, source_for
from kl2tp.model.addr import text
from kl2tp.model.calls import LacSpec

if TYPE_CHECKING:
    from kl2tp.control.call import Call
    from kl2tp.control.endpoint import Endpoint
    from kl2tp.control.tunnel import Tunnel

_log = logging.getLogger("kl2tp.calls")
Place: TypeAlias = tuple[bytes, int]
_STEADY_S = 30.0
"""A session that was up for so long is no failure when it ends."""


class Dial:
    """One call that is to be kept."""

    __slots__ = ("call", "handle", "problem", "server", "session", "spec", "stopped", "tries")

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


class Dialer:
    """All calls that we place."""

    def __init__(
        self, endpoint: "Endpoint", turn: Callable[[], None], adopt: Callable[[Peer, socket.socket], None]
    ) -> None:
        """`turn` has what was begun sent; `adopt` listens on a tunnel's own socket."""
        self.dials: dict[str, Dial] = {}
        self._endpoint = endpoint
        self._turn, self._adopt = turn, adopt
        self._loop = asyncio.get_running_loop()
        self._shared: dict[tuple[Place, Place, str], Tunnel] = {}

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
        dial.stopped = True
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
        remote = spec.remotes[dial.server]
        now = self._loop.time()
        try:
            local = (spec.local[0] or source_for(remote), spec.local[1])
        except OSError as error:
            self._failed(dial, f"no way to {text(remote[0])}: {error}")
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

    def _connect(self, spec: LacSpec, remote: Place, local: Place, now: float) -> "Tunnel":
        """Open a tunnel; from a port of the kernel's choice where no port is given. Raises KernelError."""
        if local[1]:
            return self._endpoint.connect(spec, remote, local, now)
        sock = open_connected(local, remote)
        local = (local[0], int(sock.getsockname()[1]))
        tunnel = self._endpoint.connect(spec, remote, local, now)
        tunnel.owner = peer = Peer(tunnel)
        self._adopt(peer, sock)
        return tunnel

    def _existing(self, spec: LacSpec, remote: Place, local: Place) -> "Tunnel | None":
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
        dial.call, dial.problem = None, reason
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
