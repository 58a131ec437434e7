"""Fuzz every decoder with atheris (coverage-guided), each for some seconds. Findings end the run with their bytes.

pip install atheris
python tests/fuzz/run.py --seconds 10 [TARGET ...]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]


def _fuzz(name: str, arguments: list[str]) -> None:
    """In a child: fuzz one target until libFuzzer has enough; it ends the process itself."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["kl2tp"]):
        from fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def _run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; whether nothing was found."""
    from fuzz.targets import seeds

    with tempfile.TemporaryDirectory() as directory:
        for number, seed in enumerate(seeds()):
            (Path(directory) / str(number)).write_bytes(seed)
        limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=5", f"-artifact_prefix={directory}/crash-"]
        command = [sys.executable, __file__, "--child", name, *limits, directory]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        crashes = [path.read_bytes() for path in Path(directory).glob("crash-*")]
    runs = [line for line in child.stderr.splitlines() if line.startswith("Done ")]
    print(f"{name:28} {runs[0] if runs else 'FAILED'}", flush=True)
    if child.returncode:
        print(child.stderr[-3000:], *crashes, sep="\n")
    return not child.returncode


def main(argv: list[str]) -> int:
    """The exit status: 0 if nothing was found."""
    if argv[:1] == ["--child"]:
        _fuzz(argv[1], argv[2:])
        return 0
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)}")
    args = parser.parse_args(argv)
    if unknown := set(args.targets) - TARGETS.keys():
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    found = [name for name in args.targets or TARGETS if not _run(name, args.seconds)]
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
