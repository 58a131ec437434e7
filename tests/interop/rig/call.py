"""A call between two ends, whatever they are."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from interop.rig import kl2tp, points, xl2tpd
from interop.rig.process import PATIENCE_S
from interop.rig.terms import LNS_ADDRESS, POOL_FIRST, POOL_LAST, Terms
from kernel.rig.net import Host, Late


class End(Protocol):
    """One side of calls, as a daemon on a host."""

    host: Host
    terms: Terms

    def start(self) -> None:
        """Start it, and wait until it is at work."""

    def stop(self) -> None:
        """End it as an operator does."""

    def kill(self) -> None:
        """SIGKILL: the peer hears nothing."""

    def hang_up(self) -> None:
        """End every call."""

    def log(self) -> str:
        """What it has said."""

    def close(self) -> None:
        """End it, if need be."""


class Lac(End, Protocol):
    """The side that calls."""

    user: str
    password: str


SERVERS: dict[str, Callable[[Host, Path, Terms], End]] = {"xl2tpd": xl2tpd.Lns, "kl2tp": kl2tp.Lns}
CLIENTS: dict[str, Callable[[Host, Path, Terms, Host], Lac]] = {"xl2tpd": xl2tpd.Lac, "kl2tp": kl2tp.Lac}
PAIRS = [("xl2tpd", "kl2tp"), ("kl2tp", "xl2tpd"), ("kl2tp", "kl2tp"), ("xl2tpd", "xl2tpd")]
"""Who calls whom. The last is there to prove the bench, not xl2tpd."""


class Call:
    """A caller and who answers."""

    def __init__(self, lns: End, lac: Lac) -> None:
        self.lns, self.lac = lns, lac
        self.device = ""
        """Of the caller."""
        self.address = ""
        """That it was given."""

    def begin(self) -> None:
        """Start both."""
        self.lns.start()
        self.lac.start()

    def wait_up(self, within: float = PATIENCE_S) -> None:
        """Until both have one device, with the right addresses."""
        self.until(self._joined, within)
        ((self.device, ends),) = points.links(self.lac.host).items()
        assert ends.peer == LNS_ADDRESS
        points.assert_in_pool(ends.local, POOL_FIRST, POOL_LAST)
        self.address = ends.local

    def _joined(self) -> bool:
        """Either end has one device, and they are the ends of one call."""
        near, far = (list(points.links(end.host).values()) for end in (self.lac, self.lns))
        return len(near) == len(far) == 1 and near[0] == far[0][::-1]

    def until(self, predicate: Callable[[], object], within: float = PATIENCE_S) -> float:
        """Wait for something, looking whenever something happens on either host; the seconds it took. Raises Late."""
        with self.lac.host.events() as near, self.lns.host.events() as far:
            near.add(far)
            return near.until(predicate, within)

    def assert_carries(self) -> None:
        """Packets pass both ways, small ones and those of the largest size."""
        points.ping(self.lac.host, LNS_ADDRESS, self.device)
        points.ping(self.lns.host, self.address)
        points.ping(self.lac.host, LNS_ADDRESS, self.device, size=points.mtu(self.lac.host, self.device) - 28)

    def wait_gone(self) -> None:
        """Until neither has a device, nor a tunnel."""
        for end in (self.lac, self.lns):
            points.wait_no_devices(end.host)

    @contextlib.contextmanager
    def told(self) -> Iterator["Call"]:
        """Both are ended after the block, and what they said is shown, in case that it is wanted."""
        try:
            yield self
        finally:
            for end in (self.lac, self.lns):
                print(end.log())
                with contextlib.suppress(Late):
                    end.close()


def between(lac: str, lns: str, hosts: tuple[Host, Host], directory: Path, terms: Terms) -> Call:
    """A call that those programs are to make: `hosts` are the caller's and the server's."""
    client, server = hosts
    return Call(SERVERS[lns](server, directory, terms), CLIENTS[lac](client, directory, terms, server))
