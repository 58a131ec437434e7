"""The supervisor: charon is kept as it is wanted, and what it does is heard.

The interface first; what it promises is in the docstrings.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kl2tp.ipsec.ike.negotiation import ChildSa, Negotiation, Stranger
from kl2tp.ipsec.ike.wanted import Wanted


class Charon:
    """All our connections in strongSwan's charon. One event loop owns it; no method blocks."""

    clients: Mapping[int, ChildSa]
    """Of all LNSes, by reqid: who a packet with this mark comes from. Read-only."""

    def __init__(
        self,
        socket: str,
        state_file: Path | None,
        *,
        changed: Callable[[set[str]], None],
        gone: Callable[[ChildSa], None] = lambda _: None,
    ) -> None:
        """`changed` gets the names of connections whose `Negotiation` is another than before.

        `gone` gets each child that is no more and was not re-keyed: a client that left, an orphan whose reqid charon
        gave to somebody else (its SAs may still be in the kernel then: `orphaned` is True, delete them by SPI).
        Both are called from the event loop, soon after the fact, never within a call of ours.
        """
        raise NotImplementedError

    def want(self, wanted: Mapping[str, Wanted]) -> None:
        """These connections and no others from now on. Cheap; secrets are read in a worker thread afterwards, and
        are read again at every call if their files changed."""

    def negotiation(self, name: str) -> Negotiation:
        """What is known; a name that is not wanted is DOWN."""
        raise NotImplementedError

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        """Peers that no connection was found for, the latest last; a hundred at most."""
        return ()

    @property
    def alive(self) -> bool:
        """Whether charon answers."""
        return False

    @property
    def version(self) -> str:
        """`strongSwan 5.9.8`; "" while it was never seen."""
        return ""

    async def run(self) -> None:
        """Connect, make charon agree, hear, begin: until cancelled. Raises nothing else."""

    async def settled(self) -> None:
        """Wait until charon agrees with what is wanted, as far as it can."""

    async def details(self, name: str) -> Negotiation:
        """As `negotiation`, with counters of this moment. Without charon, what is known."""
        raise NotImplementedError

    def retry(self, name: str) -> None:
        """Begin now, without waiting for the next try."""

    def renew(self, name: str) -> None:
        """A new IKE SA, with all of authentication, beside the old one, which ends when the new one is up."""

    def terminate(self, name: str) -> None:
        """End all SAs of a connection; if it is still wanted and we initiate, it begins anew."""

    def terminate_client(self, reqid: int) -> None:
        """End the IKE SA of one client of an LNS."""

    def sas_gone(self, spis: Iterable[int]) -> None:
        """The owner of the kernel says: these inbound SPIs are there no more. Orphans among them are gone then."""

    async def close(self) -> None:
        """End the connections to charon. SAs and connections in charon stay."""
