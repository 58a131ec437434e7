"""L2TPv2 calls with PPP, by the thousand: kl2tp beside xl2tpd with pppd, on the same kernel in the same run.

Callers that live in user space and share the processor with the server (`scale.crowd`) set calls up, send a packet
through each, keep them alive, and hang up. Run as root on a kernel with L2TP and PPP:

    python3 tests/lab/lab run --kernel 6.12 --writable build -- .venv/bin/python tests/scale/ppp_bench.py

Prints a table and puts its figures into build/bench.json, beside those of `bench.py`.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from interop.rig import points, pppd  # noqa: E402
from interop.rig.process import kill_all, pids_of  # noqa: E402
from kernel.rig.net import Host  # noqa: E402
from kernel.rig.run import Unit  # noqa: E402
from scale.crowd import wire as ends  # noqa: E402
from scale.crowd.crowd import PASSWORD, USER, Crowd  # noqa: E402

Values = dict[str, Any]
SHAPES = ((1000, 1), (100, 50))
"""Tunnels, and sessions in each."""
XL2TPD_SHAPE = (100, 1)
IDLE_S = 20.0
_WITHIN_S = 600.0
_TICK = os.sysconf("SC_CLK_TCK")
_LOCAL, _POOL = "10.0.0.1", "10.0.0.0/14"


class Server(Protocol):
    """What takes the calls."""

    name: str

    def pids(self) -> list[int]:
        """Its processes, now."""

    def close(self) -> None:
        """End it."""


class Kl2tp:
    """The daemon and its keeper."""

    name = "kl2tp"

    def __init__(self, host: Host, directory: Path, users: int) -> None:
        self.unit = unit = Unit(host, directory)
        unit.run_dir.mkdir()
        secrets = unit.directory / "chap-secrets"
        secrets.touch(0o600)
        secrets.write_text(_secrets(users))
        ppp = f"{{auth: pap, local: {_LOCAL}, pool: {_POOL}}}"
        unit.config.write_text(f"users: {secrets}\nlns: {{office: {{listen: {ends.SERVER}, ppp: {ppp}}}}}\n")
        command = [sys.executable, "-m", "kl2tp", "keeper", "--run-dir", str(unit.run_dir)]
        with host.entered():
            self._keeper = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
        host.until(lambda: (unit.run_dir / "keeper").exists(), 20.0)
        self.daemon = unit.daemon()
        self.daemon.wait_ready()

    def pids(self) -> list[int]:
        return [self.daemon.pid, self._keeper.pid]

    @property
    def stall_ms(self) -> float:
        """The longest stall of the event loop."""
        return float(self.daemon.call("status")["daemon"]["longest_stall_ms"])

    def close(self) -> None:
        if self.daemon.alive():
            self.daemon.terminate(60.0)
        self.daemon.close()
        self._keeper.kill()
        self._keeper.wait()


class Xl2tpd:
    """xl2tpd with a pppd for each session, as Debian ships them."""

    name = "xl2tpd"

    def __init__(self, host: Host, directory: Path, users: int) -> None:
        pppd.prepare()
        self._host = host
        for name in ("pap-secrets", "chap-secrets"):
            (pppd.ETC / name).write_text(_secrets(users))
        options = pppd.write(directory / "options", ["auth", "require-pap", "name server", "noccp", "nodefaultroute"])
        (directory / "secrets").touch(0o600)
        lines = ["[global]", f"listen-addr = {ends.SERVER}", f"auth file = {directory}/secrets", "[lns default]"]
        lines += [f"local ip = {_LOCAL}", "ip range = 10.0.0.2-10.0.7.250", f"pppoptfile = {options}"]
        config = pppd.write(directory / "xl2tpd.conf", lines)
        command = ["/usr/sbin/xl2tpd", "-D", "-c", str(config), "-C", f"{directory}/control", "-p", f"{directory}/pid"]
        with host.entered():
            self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        host.until(lambda: (directory / "control").exists(), 20.0)

    def pids(self) -> list[int]:
        return [self._process.pid, *pids_of(self._host, "pppd")]

    def close(self) -> None:
        kill_all(self._host)
        self._process.wait()


def _secrets(users: int) -> str:
    return "".join(f'{USER.format(n)} * "{PASSWORD.format(n)}" *\n' for n in range(users))


# -- what is measured ------------------------------------------------------------------------------------------------


def cpu_s(server: Server) -> float:
    """CPU time of its processes and of those that they have waited for."""
    total = 0
    for pid in server.pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / _TICK


def memory_kb(server: Server) -> int:
    """Proportional set size, KiB: what is shared counts once."""
    total = 0
    for pid in server.pids():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total


@contextlib.contextmanager
def _hosts() -> Iterator[tuple[Host, Host]]:
    server, callers = Host("server"), Host("callers")
    try:
        ends.join(server, callers)
        yield server, callers
    finally:
        kill_all(server)
        callers.delete()
        server.delete()


def measure(make: Callable[[Host, Path, int], Server], tunnels: int, sessions: int, idle_s: float) -> Values:
    """One server with so many callers."""
    count = tunnels * sessions
    with _hosts() as (host, callers), tempfile.TemporaryDirectory() as directory:
        server = make(host, Path(directory), count)
        with contextlib.closing(server), contextlib.closing(ends.Wire(callers)) as wire:
            crowd = Crowd(wire)
            found: Values = {"server": server.name, "tunnels": tunnels, "sessions": count}
            print(f"{server.name}: {tunnels} tunnels x {sessions}", file=sys.stderr, flush=True)
            before, memory = cpu_s(server), memory_kb(server)
            up = crowd.dial(crowd.add(tunnels, sessions), _WITHIN_S)
            done = max(1, up.done)
            found |= {
                "up": up.done,
                "failed": up.failed,
                "per_s": up.rate,
                "cpu_ms": (cpu_s(server) - before) * 1000 / done,
                "callers_cpu_ms": up.cpu_s * 1000 / done,
                "memory_kb": (memory_kb(server) - memory) / done,
                "median_ms": up.quantile(0.5) * 1000,
                "p99_ms": up.quantile(0.99) * 1000,
                "frames_repeated": crowd.counts["ppp_repeats"],
                "lost_pings": crowd.ping(crowd.up()),
            }
            before = cpu_s(server)
            crowd.run(lambda: False, idle_s)
            found["idle_percent"] = (cpu_s(server) - before) * 100 / idle_s
            before = cpu_s(server)
            down = crowd.hang_up(crowd.up(), _WITHIN_S)
            began = time.monotonic()
            host.until(lambda: not points.ppp_devices(host), 120.0)
            found |= {
                "down_per_s": down.done / (down.wall_s + time.monotonic() - began),
                "down_cpu_ms": (cpu_s(server) - before) * 1000 / max(1, down.done),
                "left": len(points.ppp_devices(host)),
                "lost": crowd.counts["lost"],
            }
            if isinstance(server, Kl2tp):
                found["stall_ms"] = server.stall_ms
            return found


_ROWS: tuple[tuple[str, str, str], ...] = (
    ("sessions up", "up", "{:,.0f}"),
    ("set-up, sessions/s", "per_s", "{:,.0f}"),
    ("set-up, CPU per session, ms", "cpu_ms", "{:.2f}"),
    ("(CPU of the callers, ms)", "callers_cpu_ms", "{:.2f}"),
    ("median until addresses, ms", "median_ms", "{:,.0f}"),
    ("99th percentile, ms", "p99_ms", "{:,.0f}"),
    ("PPP requests repeated", "frames_repeated", "{:,.0f}"),
    ("pings lost", "lost_pings", "{:,.0f}"),
    ("memory per session, KiB", "memory_kb", "{:,.1f}"),
    ("idle with keep-alives, CPU %", "idle_percent", "{:.1f}"),
    ("teardown, sessions/s", "down_per_s", "{:,.0f}"),
    ("teardown, CPU per session, ms", "down_cpu_ms", "{:.2f}"),
    ("devices left", "left", "{:,.0f}"),
    ("longest stall of the event loop, ms", "stall_ms", "{:,.0f}"),
)


def table(results: list[Values]) -> str:
    """Markdown: a column for each run."""
    heads = [f"{r['server']}, {r['tunnels']:,} x {r['sessions'] // r['tunnels']}" for r in results]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(results)]
    for title, key, form in _ROWS:
        cells = [form.format(r[key]) if key in r else "" for r in results]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(results: list[Values]) -> Values:
    """The figures that are asked for by name."""
    by_server = {name: [r for r in results if r["server"] == name] for name in ("kl2tp", "xl2tpd")}
    found: Values = {"ppp_runs": results}
    for name, runs in by_server.items():
        if not runs:
            continue
        first, prefix = runs[0], "" if name == "kl2tp" else f"{name}_"
        found |= {
            f"{prefix}ppp_sessions_per_s": round(first["per_s"], 1),
            f"{prefix}ppp_cpu_ms_per_session": round(first["cpu_ms"], 2),
            f"{prefix}ppp_rss_kb_per_session": round(min(r["memory_kb"] for r in runs), 1),
        }
        largest = max(runs, key=lambda r: int(r["sessions"]))
        found[f"{prefix}ppp_idle_cpu_percent_{largest['sessions']}"] = round(largest["idle_percent"], 2)
    return found


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 sessions only")
    parser.add_argument("--no-xl2tpd", action="store_true", help="leave xl2tpd out")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    args = parser.parse_args()
    shapes = ((100, 1),) if args.quick else SHAPES
    results = [measure(Kl2tp, *shape, IDLE_S) for shape in shapes]
    if not args.no_xl2tpd:
        results.append(measure(Xl2tpd, *(shapes[0] if args.quick else XL2TPD_SHAPE), IDLE_S))
    print(f"Linux {platform.release()}, {os.cpu_count()} processor(s)\n")
    print(table(results))
    known = json.loads(args.output.read_text()) if args.output.exists() else {}
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(known | summary(results), indent=2) + "\n")
    print(f"\nall figures: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
