"""What the kernel's half of PPP sessions costs, step by step, and how fast it goes away again.

    tests/lab/lab run -- python tests/scale/ppp_kernel.py                      microseconds, uniprocessor
    tests/lab/lab run --kernel vng -- python tests/scale/ppp_kernel.py --smp   grace periods in real time

On a multiprocessor kernel making a session waits for one RCU grace period and ending it for several, some 17 ms each;
so beside kl2tp's way stands the naive one, session by session.
"""

import argparse
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from kl2tp.kernel import pppol2tp  # noqa: E402
from kl2tp.kernel.pppol2tp import Plane, SessionHold, SessionWish, TunnelHold, TunnelWish  # noqa: E402
from scale.isolated import isolated  # noqa: E402

HERE, THERE = bytes((127, 0, 0, 1)), bytes((127, 0, 0, 2))
MTU = 1400
PORT = 1701


class Scene:
    """Tunnels to nobody, on the loopback device."""

    def __init__(self) -> None:
        self.plane = Plane()
        self.tunnels: list[TunnelHold] = []
        self.sessions: list[SessionHold] = []
        self.open(1)  # the first of all loads modules
        self.attach(1)

    def open(self, count: int) -> None:
        first = len(self.tunnels) + 1
        wishes = [TunnelWish(n, n, (HERE, PORT), (THERE, 2000 + n)) for n in range(first, first + count)]
        self.tunnels += _whole(self.plane.open_tunnels(wishes), TunnelHold)

    def attach(self, count: int, *, one_tunnel: bool = False) -> None:
        first = len(self.sessions) + 1
        wishes = [self.wish(n, 1 if one_tunnel else n) for n in range(first, first + count)]
        self.sessions += _whole(self.plane.attach(wishes), SessionHold)

    @staticmethod
    def wish(number: int, tunnel: int) -> SessionWish:
        return SessionWish(tunnel, number, tunnel, number, f"l2tp{number}", MTU, lns=True)


def _whole(results: list[Any], kind: type) -> list[Any]:
    for result in results:
        assert isinstance(result, kind), result
    return results


class Watch:
    """Time spent in functions, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def over(self, place: Any, name: str) -> None:
        """Measure a function from now on."""
        inner: Callable[..., Any] = getattr(place, name)

        @wraps(inner)
        def timed(*arguments: Any, **more: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*arguments, **more)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

        setattr(place, name, timed)


def _steps(batch: int, total: int) -> dict[str, float]:
    """Microseconds per session of each step, `batch` sessions at a time."""
    watch = Watch()
    for name in ("_sockets", "_make_tunnels", "_make_devices", "open_tunnels", "attach"):
        watch.over(Plane, name)
    for name in ("_open_sessions", "_open_channels", "_connect"):
        watch.over(pppol2tp, name)
    scene = Scene()
    watch.seconds.clear()
    for _ in range(total // batch):
        scene.open(batch)
        scene.attach(batch)
    made = total // batch * batch
    found = {name: seconds / made * 1e6 for name, seconds in watch.seconds.items()}
    began = time.perf_counter()
    scene.plane.detach(scene.sessions)
    found["detach"] = (time.perf_counter() - began) / len(scene.sessions) * 1e6
    began = time.perf_counter()
    scene.plane.close_tunnels(scene.tunnels)
    found["close_tunnels"] = (time.perf_counter() - began) / len(scene.tunnels) * 1e6
    return found


def _cpu_and_wall(total: int, batch: int) -> tuple[float, float]:
    scene = Scene()
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(total // batch):
        scene.open(batch)
        scene.attach(batch)
    return time.perf_counter() - began, time.process_time() - cpu


def _system_call() -> float:
    """Microseconds of the cheapest one."""
    began = time.perf_counter()
    for _ in range(2000):
        os.getppid()
    return (time.perf_counter() - began) / 2000 * 1e6


def _table(total: int) -> None:
    batches = [b for b in (1, 8, 64, 250) if b <= total]
    print(f"kernel {platform.release()}; a system call takes {isolated(_system_call):.1f} us")
    columns = {batch: isolated(partial(_steps, batch, total)) for batch in batches}
    print(f"\n{'us per session, by batch':28}" + "".join(f"{batch:>9}" for batch in batches))
    for name in next(iter(columns.values())):
        print(f"{name:28}" + "".join(f"{columns[batch].get(name, 0):>9.0f}" for batch in batches))
    print(f"{'tunnel and session':28}", end="")
    print("".join(f"{columns[b]['open_tunnels'] + columns[b]['attach']:>9.0f}" for b in batches))
    for batch in (1, 64):
        wall, cpu = isolated(partial(_cpu_and_wall, total, batch))
        print(f"without stopwatches, {batch:>3} at a time: {wall / total * 1e6:.0f} us, CPU {cpu / total * 1e6:.0f} us")


def _ended(total: int, *, one_tunnel: bool, naive: bool) -> float:
    """Seconds until sessions and their tunnels are gone."""
    scene = Scene()
    scene.open(0 if one_tunnel else total)
    scene.attach(total, one_tunnel=one_tunnel)
    began = time.perf_counter()
    if naive:
        for hold in scene.sessions:
            for fd in (hold.unit_fd, hold.channel_fd, hold.px_fd):
                os.close(fd)
        for tunnel in scene.tunnels:
            tunnel.sock.close()
    else:
        scene.plane.detach(scene.sessions)
        scene.plane.close_tunnels(scene.tunnels)
    return time.perf_counter() - began


def _made(total: int, *, naive: bool) -> float:
    """Seconds until sessions are there."""
    scene = Scene()
    scene.open(total)
    began = time.perf_counter()
    if naive:
        for _ in range(total):
            scene.attach(1)
    else:
        scene.attach(total)
    return time.perf_counter() - began


def _smp(total: int) -> None:
    cases = {
        "made, together": partial(_made, total, naive=False),
        "made, one by one": partial(_made, total, naive=True),
        "ended, a tunnel each": partial(_ended, total, one_tunnel=False, naive=False),
        "ended, all in one tunnel": partial(_ended, total, one_tunnel=True, naive=False),
        "ended, naively": partial(_ended, total, one_tunnel=False, naive=True),
    }
    print(f"{total} sessions on kernel {platform.release()}, {os.cpu_count()} processors\n")
    print(f"{'':30}{'all':>10}{'each':>10}")
    isolated(partial(_made, 1, naive=False))
    for name, case in cases.items():
        seconds = isolated(case)
        print(f"{name:30}{seconds:>8.2f} s{seconds / total * 1000:>7.1f} ms", flush=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, metavar="N", help="how many (default 1000, with --smp 40)")
    parser.add_argument("--smp", action="store_true", help="what a multiprocessor kernel is for")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.smp:
        _smp(arguments.sessions or 40)
    else:
        _table(arguments.sessions or 1000)
        for one_tunnel in (False, True):
            seconds = isolated(partial(_ended, 1000, one_tunnel=one_tunnel, naive=False))
            print(f"1,000 sessions in {'one tunnel' if one_tunnel else '1,000 tunnels'} ended in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
