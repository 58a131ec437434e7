"""What all machines of authentication have in common: packets to send, one of them repeated until it is answered."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from kl2tp.model.names import text

Random: TypeAlias = Callable[[int], bytes]
"""Gives so many unpredictable bytes."""

TRIES = 10
TIMEOUT = 3.0
"""Seconds until a packet is sent again."""
LONGEST_MESSAGE = 200
"""Characters of a peer's message that are shown, and bytes of one that we send."""


class Machine:
    """Either side. `deadline` is when `handle_timer` wants to be called; None: no need."""

    __slots__ = ("_frames", "_left", "_repeated", "_timeout", "_tries", "deadline", "result")

    def __init__(self, tries: int, timeout: float) -> None:
        self._frames: list[bytes] = []
        self._tries = tries
        self._timeout = timeout
        self._left = 0
        self._repeated = b""
        self.deadline: float | None = None
        self.result: bool | None = None

    def take_frames(self) -> Sequence[bytes]:
        """Packets to be sent, code first."""
        if not self._frames:
            return ()
        frames, self._frames = self._frames, []
        return frames

    def handle_timer(self, now: float) -> None:
        """Send again what was not answered, or give up."""
        if self.deadline is None or now < self.deadline:
            return
        if self._left:
            self._left -= 1
            self.deadline = now + self._timeout
            self._frames.append(self._repeated)
        else:
            self.deadline = None
            self._repeated = b""
            self._expired(now)

    def _say(self, packet: bytes) -> None:
        """Send a packet once."""
        self._frames.append(packet)

    def _ask(self, packet: bytes, now: float) -> None:
        """Send a packet until `_stop`, or until it has been sent so many times."""
        self._frames.append(packet)
        self._repeated = packet
        self._left = self._tries - 1
        self.deadline = now + self._timeout

    def _wait(self, now: float) -> None:
        """Wait for the peer as long as a packet would be repeated."""
        self._repeated = b""
        self._left = 0
        self.deadline = now + self._tries * self._timeout

    def _stop(self) -> None:
        """The peer has answered."""
        self._repeated = b""
        self._left = 0
        self.deadline = None

    def _expired(self, now: float) -> None:
        """Nothing came."""
        raise NotImplementedError


def shown(message: bytes) -> str:
    """A peer's message, fit to be shown."""
    return text(message[: 4 * LONGEST_MESSAGE])[:LONGEST_MESSAGE].strip()


def sent(message: str, usual: str) -> bytes:
    """A message as it is sent: of one line, not too long, cut where a character ends."""
    line = " ".join((message or usual).split())
    return line.encode("utf-8", "replace")[:LONGEST_MESSAGE].decode("utf-8", "ignore").encode()


WELCOME = "Access granted"
REFUSED = "Access denied"
