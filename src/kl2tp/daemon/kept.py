"""Calls without a daemon: the keeper holds what they live by, and only to end them is there anything to do."""

import os
from pathlib import Path

from kl2tp.calls.keeping import Keeping
from kl2tp.keeper.client import KeeperClient, KeeperError
from kl2tp.keeper.protocol import SOCKET
from kl2tp.kernel.pppol2tp import Plane, SessionHold, sort_kept


def end_kept(run_dir: Path) -> None:
    """Take away all calls that an earlier daemon has left; their peers find out by themselves. Blocks."""
    Keeping.forget(run_dir)
    try:
        keeper = KeeperClient(run_dir / SOCKET)
        descriptors = keeper.fetch()
        keeper.drop(descriptors)
        keeper.close()
    except KeeperError:
        return  # without a keeper they ended with their daemon
    kept = sort_kept(descriptors)
    plane = Plane()
    plane.detach([SessionHold(*ids, "", *pair) for ids, pair in kept.sessions.items()])
    for fd in (*kept.rest.values(), *kept.tunnels.values()):
        os.close(fd)
    plane.close()
