"""What a PPP link wants of the ways to authenticate: the side that demands, and the side that answers.

Both are fed the information of PPP frames, code first, and give such: the link takes off and puts on the protocol
number. After every input their owner takes their frames and looks at `result` and `deadline`.
"""

from collections.abc import Sequence
from typing import Protocol


class Attempt(Protocol):
    """A peer's claim to be somebody."""

    @property
    def identity(self) -> str:
        """Who it says it is, fit to be shown."""

    @property
    def method(self) -> str:
        """How it proves that, in the words of `kl2tp.model.calls`."""

    def verify(self, secret: bytes) -> bool:
        """Whether it knows the secret; takes as long whether or not it does."""


class _Machine(Protocol):
    """What both sides have."""

    @property
    def result(self) -> bool | None:
        """None as long as it is open. Once it is set, what the peer repeats is still answered as before."""

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called; None: no need."""

    def start(self, now: float) -> None:
        """LCP has agreed on this protocol: say what there is to say first."""

    def receive(self, information: bytes, now: float) -> None:
        """Take a packet, code first. What cannot be understood is dropped in silence."""

    def handle_timer(self, now: float) -> None:
        """Look at the time; calls that come too early do nothing."""

    def take_frames(self) -> Sequence[bytes]:
        """Packets to be sent, code first."""


class Authenticator(_Machine, Protocol):
    """The side that demands."""

    @property
    def identity(self) -> str:
        """Who the peer says it is; "" until it has said so."""

    @property
    def attempt(self) -> Attempt | None:
        """What waits for a verdict, however long that takes: the peer's repetitions meanwhile change nothing."""

    def go_on(self, identity: str, now: float) -> None:
        """The peer was let in as this before: challenge it again when that is due, if ever."""

    def verdict(self, ok: bool, message: str, now: float) -> None:
        """Answer `attempt`. `message` is shown to the peer's user; "" takes a usual one."""


class Supplicant(_Machine, Protocol):
    """The side that answers. After its success it goes on to answer: a peer may ask again at any time (RFC 1994 2)."""

    @property
    def reason(self) -> str:
        """Why `result` is False: what the peer said, fit to be shown."""
