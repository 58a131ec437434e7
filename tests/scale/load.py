"""How long a large configuration takes to load and validate, and how much memory.

    python tests/scale/load.py [--tunnels 10000] [--repeat 3] [--json]

The same tunnels twice: every one spelled out (19 lines each), and as one set; and for comparison what libyaml and
PyYAML alone need to read the spelled out file as events, without keeping any. Each load runs in a process of its own;
the table shows the best time and the least memory of the repetitions.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).parents[2] / "src"

DEFAULTS = """\
defaults:
  local: 198.51.100.1
  ipsec: {proposal: aes256gcm16, key_dir: /etc/kl2tp/keys}
"""

TUNNEL = """\
    remote: 10.REMOTE
    encapsulation: udp
    ids: IDS
    ports: PORTS
    path_mtu: 1500
    sessions:
      lan:
        ids: SESSION_IDS
        cookie: auto
        sequencing: none
        l2_sublayer: default
        interface:
          name: DEVICE
          mtu: auto
          mss: auto
          addresses:
            - 10.ADDRESS/30
          up: true
"""


def spelled_out(count: int) -> Iterator[str]:
    """Each tunnel written down."""
    yield f"{DEFAULTS}tunnels:\n"
    for n in range(count):
        values = {
            "REMOTE": f"{20 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}",
            "SESSION_IDS": f"{n + 1}/{n + 1}",
            "IDS": f"{1000 + n}/{1000 + n}",
            "PORTS": f"{20000 + n % 40000}/1701",
            "DEVICE": f"br{n:05}",
            "ADDRESS": f"{64 + n // 16384}.{n // 64 % 256}.{n % 64 * 4 + 1}",
        }
        yield f"  branch-{n:05}:\n{_filled(values)}"


def as_set(count: int) -> Iterator[str]:
    """The same tunnels as a set."""
    values = {
        "REMOTE": "{20 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}",
        "SESSION_IDS": '"{n + 1}/{n + 1}"',
        "IDS": '"{1000 + n}/{1000 + n}"',
        "PORTS": '"{20000 + n % 40000}/1701"',
        "DEVICE": "br{n:05}",
        "ADDRESS": "{64 + n // 16384}.{n // 64 % 256}.{n % 64 * 4 + 1}",
    }
    yield f"{DEFAULTS}sets:\n  branch-{{n:05}}:\n    range: 0-{count - 1}\n{_filled(values)}"


def _filled(values: dict[str, str]) -> str:
    text = TUNNEL
    for word, value in values.items():
        text = text.replace(word, value)
    return text


def parse(path: str) -> None:
    """Read the file as YAML events."""
    loader = yaml.CSafeLoader(Path(path).read_bytes())
    while not isinstance(loader.get_event(), yaml.StreamEndEvent):
        pass


def measure(what: str, path: str) -> dict[str, Any]:
    """Load or parse the file in this process. Seconds of CPU, and memory in MB: at its peak, and what stays."""
    from kl2tp.config.loading import load

    loaded = None
    began = time.process_time()
    if what == "parse":
        parse(path)
    else:
        loaded = load(path, conf_d=False)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "tunnels": len(loaded.tunnels) if loaded is not None else 0,
        "cpu_s": seconds,
        "peak_rss_mb": peak,
        "rss_mb": pages * resource.getpagesize() / 2**20,
    }


def best(what: str, path: Path, repeat: int) -> dict[str, Any]:
    """The best of several loads, each in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    runs = [
        json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
        for _ in range(repeat)
    ]
    return {name: min(run[name] for run in runs) for name in runs[0]} | {"lines": path.read_text().count("\n")}


def main() -> None:
    """Measure both forms and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunnels", type=int, default=10_000, metavar="N", help="how many (default: 10000)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="loads of each file (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as directory:
        written, template = Path(directory, "written.yaml"), Path(directory, "set.yaml")
        written.write_text("".join(spelled_out(args.tunnels)))
        template.write_text("".join(as_set(args.tunnels)))
        results["parser alone"] = best("parse", written, args.repeat)
        results["spelled out"] = best("load", written, args.repeat)
        results["one set"] = best("load", template, args.repeat)
    if args.json:
        key = f"load_{args.tunnels}_cpu_s"
        print(json.dumps({key: results["spelled out"]["cpu_s"], "load": results}, indent=2))
        return
    print(f"{args.tunnels:,} tunnels    lines    CPU s   peak RSS MB   RSS after MB")
    for name, found in results.items():
        print(
            f"{name:<14} {found['lines']:>8,} {found['cpu_s']:>8.2f} {found['peak_rss_mb']:>13.0f} "
            f"{found['rss_mb']:>14.0f}"
        )


if __name__ == "__main__":
    main()
