"""What a server still has: for a comparison of before and after."""

import os
from collections.abc import Iterable
from pathlib import Path

from interop.rig import points
from kernel.rig.net import Host
from kl2tp.model.value import dataclass


@dataclass(frozen=True, slots=True)
class Remains:
    """Counts of what calls are made of."""

    devices: int
    """Network devices for PPP."""
    tunnels: int
    """In the kernel, like..."""
    sessions: int
    descriptors: int
    """Open files of the server's processes."""
    processes: int


def remains(host: Host, pids: Iterable[int]) -> Remains:
    """What there is now, of a server with these processes."""
    alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in alive)
    return Remains(
        len(points.ppp_devices(host)), points.tunnels(host), points.sessions(host), descriptors, len(alive)
    )


def threads(pids: Iterable[int]) -> int:
    """Tasks of these processes."""
    return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)
