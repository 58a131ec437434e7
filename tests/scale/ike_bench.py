"""A thousand IKE connections, each with a key of its own: kl2tp beside `swanctl --load-all`, with the same charon.

Loaded into an empty charon, looked at again, one in a hundred changed, looked at by a kl2tp that was restarted, and
taken away. Nothing is negotiated. Run as root on a kernel with ESP:

    python3 tests/lab/lab run --kernel 6.12 --writable build -- .venv/bin/python tests/scale/ike_bench.py

Prints a table and puts its figures into build/bench.json, beside those of `bench.py`.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from interop.ike.rig.charon import Charon as Daemon  # noqa: E402
from kernel.rig.net import Host  # noqa: E402
from kl2tp.ipsec.ike import Wanted  # noqa: E402
from kl2tp.ipsec.ike.charon import Charon  # noqa: E402
from kl2tp.ipsec.vici import Vici  # noqa: E402
from kl2tp.model.addr import parse, text  # noqa: E402
from kl2tp.model.ike import IkeSpec  # noqa: E402
from kl2tp.wire.vici import items  # noqa: E402

Values = dict[str, Any]
SIZE = 1000
LOCAL = parse("192.0.2.1")
_TICK = os.sysconf("SC_CLK_TCK")
_WITHIN_S = 300.0


def remote(number: int) -> bytes:
    """The address of a peer."""
    return (parse("10.0.0.0")[0] << 24 | number + 1).to_bytes(4, "big")


def cpu_s(pid: int) -> float:
    """CPU time of a process."""
    with suppress(FileNotFoundError):
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / _TICK
    return 0.0


def children_cpu_s() -> float:
    """CPU time of those we have waited for."""
    times = os.times()
    return times.children_user + times.children_system


async def connections(daemon: Daemon) -> int:
    """How many charon has."""
    vici = await Vici.open(str(daemon.vici))
    try:
        return len(items(await vici.ask("get-conns"), "conns"))
    finally:
        await vici.close()


class Stopwatch:
    """Times of one kind of server, in its run."""

    def __init__(self, prefix: str, daemon: Daemon) -> None:
        self.prefix, self.daemon = prefix, daemon
        self.values: Values = {}
        self.ours = time.process_time

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Wall time, our CPU time, charon's."""
        pid = self.daemon.pid
        before = (time.monotonic(), self.ours(), cpu_s(pid))
        yield
        after = (time.monotonic(), self.ours(), cpu_s(pid))
        for unit, start, end in zip(("s", "cpu_s", "charon_cpu_s"), before, after, strict=True):
            self.values[f"{self.prefix}_{name}_{unit}"] = round(end - start, 4)


# --- kl2tp


class Commands:
    """Counts the commands that change something."""

    def __init__(self) -> None:
        self.count = 0
        ask = Vici.ask

        async def counted(vici: Vici, command: str, *rest: Any) -> Any:
            self.count += command.startswith(("load", "unload", "terminate", "initiate"))
            return await ask(vici, command, *rest)

        Vici.ask = counted  # type: ignore[method-assign]

    @contextmanager
    def counted(self, values: Values, name: str) -> Iterator[None]:
        """Those of the block."""
        before = self.count
        yield
        values[name] = self.count - before


class Kl2tp:
    """Our supervisor, in this process."""

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self.daemon, self.directory = daemon, directory
        self.begin()

    def begin(self) -> None:
        """Start, as after a restart: all that is known is in the file."""
        state = self.directory / "ike.json"
        self.charon = Charon(str(self.daemon.vici), state, changed=lambda _: None)
        self.task = asyncio.create_task(self.charon.run())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.charon.close()

    async def want(self, wanted: list[Wanted]) -> None:
        """Until charon agrees."""
        self.charon.want({one.name: one for one in wanted})
        await asyncio.wait_for(self.charon.settled(), _WITHIN_S)


def wishes(directory: Path, size: int) -> list[Wanted]:
    """A tunnel for each peer, with a file for each key."""
    found = []
    for number in range(size):
        path = directory / f"{number}.psk"
        path.touch(0o600)
        path.write_text(f"key-of-the-peer-with-number-{number}\n")
        spec = IkeSpec(psk_file=str(path), reqid=0x6B6C0000 + number)
        found.append(Wanted(f"kl2tp:branch-{number:04}", spec, LOCAL, ((remote(number), 32),)))
    return found


async def kl2tp(daemon: Daemon, directory: Path, size: int) -> Values:
    """All of it with kl2tp."""
    watch, commands = Stopwatch("ike", daemon), Commands()
    values = watch.values
    wanted = wishes(directory, size)
    server = Kl2tp(daemon, directory)
    with watch.measured("load"), commands.counted(values, "ike_load_changes"):
        await server.want(wanted)
    values["ike_connections"] = await connections(daemon)
    with watch.measured("second_pass"), commands.counted(values, "ike_second_pass_changes"):
        await server.want(wanted)
    changed = [replace(w, spec=replace(w.spec, rekey_time=1800)) if n % 100 == 0 else w for n, w in enumerate(wanted)]
    with watch.measured("changed"), commands.counted(values, "ike_changed_changes"):
        await server.want(changed)
    await server.end()
    with watch.measured("restart"), commands.counted(values, "ike_restart_changes"):
        server.begin()
        await server.want(changed)
    with watch.measured("unload"), commands.counted(values, "ike_unload_changes"):
        await server.want([])
    values["ike_left"] = await connections(daemon)
    await server.end()
    return values


# --- swanctl


def _swanctl_conf(wanted: list[Wanted], changed: bool) -> str:
    """The same connections as an operator writes them."""
    parts, secrets = [], []
    for number, want in enumerate(wanted):
        spec, peer = want.spec, text(want.remote)
        rekey = 1800 if changed and number % 100 == 0 else spec.rekey_time
        name = want.name.removeprefix("kl2tp:")
        parts.append(
            f"{name} {{\nversion = 2\nlocal_addrs = {text(LOCAL)}\nremote_addrs = {peer}\n"
            f"proposals = {','.join(spec.proposals)}\nunique = replace\nrekey_time = {spec.ike_rekey_time}s\n"
            f"dpd_delay = 30s\nlocal {{\nauth = psk\n}}\nremote {{\nauth = psk\nid = {peer}\n}}\n"
            f"children {{\nl2tp {{\nmode = transport\nesp_proposals = {','.join(spec.esp_proposals)}\n"
            f"local_ts = dynamic[udp/1701]\nremote_ts = dynamic[udp/1701]\nrekey_time = {rekey}s\n"
            f"reqid = {spec.reqid}\npolicies = no\n}}\n}}\n}}\n"
        )
        key = Path(spec.psk_file).read_text().strip()
        secrets.append(f'ike-{number} {{\nid = {peer}\nsecret = "{key}"\n}}\n')
    return f"connections {{\n{''.join(parts)}}}\nsecrets {{\n{''.join(secrets)}}}\n"


async def swanctl(daemon: Daemon, directory: Path, size: int) -> Values:
    """All of it with swanctl; each pass is `swanctl --load-all`, which knows of no other."""
    watch = Stopwatch("swanctl", daemon)
    watch.ours = children_cpu_s
    wanted = wishes(directory, size)

    async def load(name: str, conf: str) -> None:
        daemon.write("swanctl/swanctl.conf", conf)
        with watch.measured(name):
            await asyncio.to_thread(daemon.swanctl, "--load-all", within=_WITHIN_S)

    await load("load", _swanctl_conf(wanted, changed=False))
    watch.values["swanctl_connections"] = await connections(daemon)
    await load("second_pass", _swanctl_conf(wanted, changed=False))
    await load("changed", _swanctl_conf(wanted, changed=True))
    await load("unload", "")
    watch.values["swanctl_left"] = await connections(daemon)
    return watch.values


# --- results

_ROWS = (
    ("loaded into an empty charon", "load"),
    ("second pass", "second_pass"),
    ("1 % changed", "changed"),
    ("after a restart of kl2tp", "restart"),
    ("taken away", "unload"),
)


def table(values: Values) -> str:
    """Markdown: wall time (CPU time; charon's CPU time), and changes."""
    size = values["ike_connections"]
    lines = [
        f"| {size:,} IKE connections | kl2tp | changes sent | swanctl --load-all | kl2tp / swanctl |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, name in _ROWS:
        ours, theirs = (values.get(f"{prefix}_{name}_s") for prefix in ("ike", "swanctl"))
        if name == "restart":
            theirs = values.get("swanctl_second_pass_s")
        ratio = f"{ours / theirs:.3f}" if ours is not None and theirs else ""
        other = _cell(values, "swanctl", "second_pass" if name == "restart" else name)
        sent = f"{values[f'ike_{name}_changes']:,}"
        lines.append(f"| {title} | {_cell(values, 'ike', name)} | {sent} | {other} | {ratio} |")
    return "\n".join(lines)


def _cell(values: Values, prefix: str, name: str) -> str:
    if f"{prefix}_{name}_s" not in values:
        return "-"
    wall, cpu, charon = (values[f"{prefix}_{name}_{unit}"] * 1000 for unit in ("s", "cpu_s", "charon_cpu_s"))
    return f"{wall:,.0f} ms ({cpu:,.0f}; {charon:,.0f})"


def summary(values: Values) -> Values:
    """The figures, with those that are asked for by name."""
    found = dict(values)
    if values.get("swanctl_load_s"):
        found["ike_load_ratio_to_swanctl"] = round(values["ike_load_s"] / values["swanctl_load_s"], 3)
        found["ike_second_pass_ratio_to_swanctl"] = round(
            values["ike_second_pass_s"] / values["swanctl_second_pass_s"], 4
        )
    return found


async def measure(size: int, compared: bool) -> Values:
    """Each with a charon of its own."""
    values: Values = {}
    for run in (kl2tp, swanctl) if compared else (kl2tp,):
        with tempfile.TemporaryDirectory() as name:
            directory, host = Path(name), Host("hub")
            daemon = Daemon(host, directory)
            try:
                daemon.start()
                values |= await run(daemon, directory, size)
            finally:
                daemon.close()
                host.delete()
    return values


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=SIZE, help="connections")
    parser.add_argument("--no-swanctl", action="store_true", help="leave swanctl out")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    args = parser.parse_args()
    values = asyncio.run(measure(args.size, not args.no_swanctl))
    print(f"Linux {platform.release()}, {os.cpu_count()} processor(s); wall time (CPU time; charon's CPU time)\n")
    print(table(values))
    known = json.loads(args.output.read_text()) if args.output.exists() else {}
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(known | summary(values), indent=2) + "\n")
    print(f"\nall figures: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
