"""What keeps a flood of invented tunnel requests (SCCRQ) cheap.

A request from an address that is not its sender's leaves a half-open tunnel behind for which nobody will ever ask.
Their number is bounded and the oldest makes room for the newest, so somebody genuine needs only to be faster than the
flood fills the table. When it turns over fast, this comes on top: a request is answered only when it comes a second
time, word for word. Whoever waits for an answer repeats it after a second (RFC 2661 5.8); who invents addresses by the
thousand mostly does not, and gets nothing: no memory, no answer, hardly any time. Even for those who do there is a
bound, so that half-open tunnels last long enough for a slow line, and that the tunnels that are up have our time: then
somebody genuine gets through at his second or fifth try.
"""

from array import array

from kl2tp.control.limits import TokenBucket
from kl2tp.control.profiles import Peer

_SLOTS = 1 << 17
"""A mebibyte, while the flood lasts. At 30,000 requests per second four of five slots last for a second."""
_TAG_SHIFT = 32
_TICKS = 1000
"""Per second: the lower half of a slot counts milliseconds."""
_SOONEST_S, _LATEST_S = 0.3, 20.0
"""After the first request, when the second one counts."""
_YOUNG_S = 5.0
"""A half-open tunnel that has to make room at less than this age is a sign of a flood."""
_ANSWERS_PER_S = 2000.0
_CALM_S = 30.0
"""How long after the last such sign all is as before."""


class Flood:
    """Whether there is a flood, and who has asked before."""

    __slots__ = ("_answers", "_began", "_slots", "_until", "delayed")

    def __init__(self) -> None:
        self._slots: array[int] | None = None
        self._began = 0.0
        self._until = 0.0
        self._answers = TokenBucket()
        self.delayed = 0
        """Requests that were not answered."""

    def evicted(self, age_s: float, now: float) -> None:
        """A half-open tunnel made room."""
        if age_s >= _YOUNG_S:
            return
        if self._slots is None:
            self._slots = array("Q", bytes(8 * _SLOTS))
            self._began = now
        self._until = now + _CALM_S

    @property
    def lasts(self) -> bool:
        """Whether requests have to come twice."""
        return self._slots is not None

    def lets_pass(self, data: bytes, peer: Peer, now: float) -> bool:
        """Whether a request may be answered."""
        slots = self._slots
        if slots is None:
            return True
        if now >= self._until:
            self._slots = None
            return True
        if self._came_before(slots, data, peer, now) and self._answers.take(_ANSWERS_PER_S, now):
            return True
        self.delayed += 1
        return False

    def _came_before(self, slots: "array[int]", data: bytes, peer: Peer, now: float) -> bool:
        """Whether the same request came a while ago; if not, note that it came now."""
        # Python's hash of octets is keyed: which slot a request has is not for the sender to know.
        digest = hash((data, peer))
        index, tag = digest % _SLOTS, digest >> 17 & 0xFFFFFFFF
        ticks = int((now - self._began) * _TICKS) & 0xFFFFFFFF
        seen = slots[index]
        if seen >> _TAG_SHIFT == tag:
            age_s = ((ticks - seen) & 0xFFFFFFFF) / _TICKS
            if age_s <= _LATEST_S:
                return age_s >= _SOONEST_S
        slots[index] = tag << _TAG_SHIFT | ticks
        return False
