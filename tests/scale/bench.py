"""Hundreds to thousands of tunnels: prints a table, writes build/bench.json. Wants a kernel of its own: `make bench`.

kl2tp is measured beside `ip -batch` and `nft -f` with the same objects, and beside the floor: the very messages that
kl2tp sends, packed beforehand and sent without a look at anything. All of them in this run, on this kernel, each in
a fresh process and network namespace. Times are medians where a size is measured more than once.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
os.environ["PYTHONPATH"] = str(ROOT / "src")

import kl2tp.config.loading  # noqa: E402, F401 what would be imported at the first use, and measured
from scale import cases, iproute, report  # noqa: E402
from scale.fleet import Fleet  # noqa: E402
from scale.isolated import Failed, isolated  # noqa: E402

PARTS = ("load", "direct", "floor", "ip", "daemon")
_OFTEN = 1000
"""Up to this size everything but the daemon's life is measured three times."""


def main() -> int:
    """Measure, print, write."""
    args = _arguments()
    sizes = [100] if args.quick else args.sizes
    runs = [(size, "ip") for size in sizes] + ([(1000, "udp")] if 1000 in sizes else [])
    results: list[report.Values] = []
    kernel = {"release": platform.release(), "kind": _kind(), "processors": os.cpu_count()}
    args.output.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kl2tp-bench-") as directory:
        _warm_up(Path(directory))
        for size, encap in runs:
            results.append(_measure(Fleet(size, encap, Path(directory) / f"{encap}-{size}"), args.only))
            # After each size: what comes later may fail, or be given up.
            args.output.write_text(json.dumps(report.document(results, kernel), indent=2) + "\n")
    print(report.table(results, kernel))
    print(f"\nall figures: {args.output}")
    return 1 if any(r["failed"] for r in results) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 tunnels only")
    parser.add_argument(
        "--sizes",
        type=lambda text: [int(n) for n in text.split(",")],
        default=[100, 500, 1000, 10000],
        metavar="N,...",
        help="numbers of tunnels (default 100,500,1000,10000)",
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="leave the other parts out; repeatable")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    return parser.parse_args()


def _kind() -> str:
    """What sort of kernel this is."""
    cpu = Path("/proc/cpuinfo").read_text()
    if "User Mode Linux" in cpu:
        return "uml"
    return "qemu" if "QEMU" in cpu else "native"


def _warm_up(directory: Path) -> None:
    """The kernel's ciphers, the page cache and the byte code: paid by nobody's figures."""
    fleet = Fleet(3, "ip", directory / "warm-up")
    fleet.write()
    isolated(partial(cases.direct, fleet))
    iproute.scripts(fleet.units().values(), fleet.directory)
    isolated(partial(cases.by_ip, fleet))


def _measure(fleet: Fleet, only: list[str] | None) -> report.Values:
    wanted = only or PARTS
    times = 3 if fleet.size <= _OFTEN else 1
    result: report.Values = {"size": fleet.size, "encap": fleet.encap, "failed": []}
    fleet.write()

    def say(what: str) -> None:
        print(f"{fleet.size} tunnels over {fleet.encap}: {what}", file=sys.stderr, flush=True)

    def attempt(what: str, call: Callable[[], report.Values]) -> report.Values:
        """The figures; none if the measurement fails, which the others need not suffer for."""
        say(what)
        try:
            return isolated(call)
        except Failed as failure:
            say(f"{what}: {failure}")
            result["failed"].append(what)
            return {}

    if "load" in wanted:
        result |= _medians([attempt("load", partial(cases.reading, fleet)) for _ in range(times)])
    # One after the other, again and again: what disturbs one of them disturbs all.
    rounds: list[report.Values] = [{} for _ in range(times)]
    if "floor" in wanted:
        say("recording for the floor")
        blind = cases.Floor(fleet)
        result |= blind.counts
    if "ip" in wanted:
        iproute.scripts(fleet.units().values(), fleet.directory)
        result["ip_commands"] = iproute.commands(fleet.directory)
    for number, figures in enumerate(rounds, 1):
        if "direct" in wanted:
            figures |= attempt(f"apply and down, {number} of {times}", partial(cases.direct, fleet))
        if "floor" in wanted:
            figures |= attempt(f"the floor, {number} of {times}", blind.run)
        if "ip" in wanted:
            figures |= attempt(f"ip -batch, {number} of {times}", partial(cases.by_ip, fleet))
    result |= _medians(rounds)
    if "daemon" in wanted:
        result |= attempt("daemon", partial(cases.daemon, fleet))
    return result


def _medians(rounds: list[report.Values]) -> report.Values:
    """Of every figure that all rounds have."""
    common = set.intersection(*(set(r) for r in rounds))
    return {
        name: statistics.median(r[name] for r in rounds) if isinstance(value, float) else value
        for name, value in rounds[0].items()
        if name in common
    }


if __name__ == "__main__":
    sys.exit(main())
