"""How long it takes to delete tunnels on a multiprocessor kernel, where every network device waits for RCU.

    tests/lab/lab run --kernel vng -- python tests/scale/delete_smp.py [--tunnels 40]

kl2tp deletes tunnels and lets the kernel's workers take the sessions away side by side; beside it the naive way:
sessions one by one, each waiting for its grace periods with the lock of all generic netlink held, then the tunnels.
"""

import argparse
import platform
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from kl2tp.kernel.door import Door  # noqa: E402
from kl2tp.model.objects import Session  # noqa: E402
from scale import cases  # noqa: E402
from scale.fleet import Fleet  # noqa: E402
from scale.isolated import isolated  # noqa: E402


def main() -> int:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunnels", type=int, default=40, metavar="N", help="how many (default 40: it is slow)")
    count = parser.parse_args().tunnels
    with tempfile.TemporaryDirectory(prefix="kl2tp-bench-") as directory:
        fleet = Fleet(count, "ip", Path(directory))
        fleet.write()
        figures = {
            "kl2tp down (all objects)": isolated(partial(_by_kl2tp, fleet)),
            "kl2tp's way, tunnels and sessions only": isolated(partial(_tunnels, fleet)),
            "session by session": isolated(partial(_one_by_one, fleet)),
        }
    print(f"{count} tunnels with a session on kernel {platform.release()}\n")
    print(f"{'':40}{'all':>10}{'each':>10}")
    for name, seconds in figures.items():
        print(f"{name:40}{seconds:>8.2f} s{seconds / count * 1000:>7.1f} ms")
    return 0


def _by_kl2tp(fleet: Fleet) -> float:
    service = cases.direct_service(fleet)
    service.apply(detail=False)
    began = time.monotonic()
    service.down(detail=False)
    return time.monotonic() - began


def _tunnels(fleet: Fleet) -> float:
    cases.direct_service(fleet).apply(detail=False)
    host = Door().host("")
    ids = cases.tunnel_ids(fleet)
    began = time.monotonic()
    host.genl.batch([host.l2tp.tunnel_delete(number) for number in ids])
    cases.wait_gone(ids)
    return time.monotonic() - began


def _one_by_one(fleet: Fleet) -> float:
    cases.direct_service(fleet).apply(detail=False)
    host = Door().host("")
    objects = [o for unit in fleet.units().values() for o in unit.objects]
    ids = cases.tunnel_ids(fleet)
    began = time.monotonic()
    for thing in objects:
        if isinstance(thing, Session):
            host.genl.request(host.l2tp.session_delete(thing))
    for number in ids:
        host.genl.request(host.l2tp.tunnel_delete(number))
    cases.wait_gone(ids)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
