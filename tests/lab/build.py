"""Builds User Mode Linux kernels from Debian's linux-source packages, once, into the cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .cache import cache_directory, locked, scratch
from .errors import LabError
from .packages import say

VERSIONS = ("6.12", "6.1")
FRAGMENT = Path(__file__).with_name("uml.config")
INIT_SOURCE = Path(__file__).with_name("init.c")

BUILD_PROGRAMS = {
    "gcc": "build-essential",
    "make": "build-essential",
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "xz": "xz-utils",
}
# Everything that decides what comes out, besides the sources and the fragment.
CONFIGURE = ("make", "ARCH=um", "KCONFIG_ALLCONFIG=lab.fragment", "alldefconfig")
COMPILE = ("make", "ARCH=um", "linux")

# Options of the fragment that a version may drop, with the reason.
ACCEPTED_LOSSES: dict[str, dict[str, str]] = {"6.12": {}, "6.1": {}}


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in the cache."""

    version: str
    directory: Path

    @property
    def image(self) -> Path:
        """The executable that is the kernel."""
        return self.directory / "linux"

    @property
    def source(self) -> str:
        """The Debian version of the sources it was built from."""
        facts = json.loads((self.directory / "facts.json").read_text())
        return str(facts["source"])


def recipe(version: str) -> str:
    """A short hash of what this directory contributes to a kernel: change it and the kernel is rebuilt."""
    inputs = [version, FRAGMENT.read_text(), *CONFIGURE, *COMPILE]
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:10]


def cached(version: str) -> Kernel | None:
    """The newest kernel of that version built by this very recipe."""
    found = cache_directory().glob(f"uml-{version}-{recipe(version)}-*")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return Kernel(version, newest) if newest else None


def require(version: str) -> Kernel:
    """The cached kernel, built now if there is none."""
    return cached(version) or build(version)


def build(version: str, *, update: bool = False) -> Kernel:
    """Build a kernel unless it is there; with `update`, also if Debian has newer sources now."""
    with locked(f"uml-{version}"):
        kernel = cached(version)
        if kernel and not update:
            return kernel
        source = packages.find_candidate(f"linux-source-{version}")
        if kernel and kernel.source == source:
            return kernel
        packages.need_programs(BUILD_PROGRAMS)
        with scratch("build") as directory:
            return compile_kernel(version, source, directory)


def compile_kernel(version: str, source: str, directory: Path) -> Kernel:
    """Download, configure, check, compile, install."""
    say(f"building the {version} kernel from Debian's sources {source}: once, about 5 minutes on two cores")
    started = time.monotonic()
    result = directory / "result"
    result.mkdir()
    log = result / "build.log"
    tree = unpack(version, directory)
    shutil.copy(FRAGMENT, tree / "lab.fragment")
    run_logged(CONFIGURE, tree, log)
    check_config(version, tree / ".config")
    run_logged((*COMPILE, f"-j{os.cpu_count() or 1}"), tree, log)
    subprocess.run(["strip", "-o", result / "linux", tree / "linux"], check=True)
    shutil.copy(tree / ".config", result / "config")
    seconds = round(time.monotonic() - started)
    (result / "facts.json").write_text(json.dumps({"version": version, "source": source, "seconds": seconds}))
    final = cache_directory() / f"uml-{version}-{recipe(version)}-{source}"
    shutil.rmtree(final, ignore_errors=True)
    result.rename(final)
    say(f"built the {version} kernel in {seconds} s: {final}")
    return Kernel(version, final)


def unpack(version: str, directory: Path) -> Path:
    """The kernel's sources: the package is only downloaded and unpacked, the host gets nothing installed."""
    package = f"linux-source-{version}"
    if packages.apt(["apt-get", "download", package], cwd=directory) != 0:
        raise LabError(f"cannot download {package}", hint=f"apt-get download {package} shows why")
    (archive,) = directory.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "--extract", archive, directory], check=True)
    archive.unlink()
    (tarball,) = (directory / "usr/src").glob("linux-source-*.tar.xz")
    subprocess.run(["tar", "-xf", tarball], cwd=directory, check=True)
    tarball.unlink()
    return directory / package


def run_logged(command: tuple[str, ...], tree: Path, log: Path) -> None:
    """Run one step of the build; on failure keep its log and show where."""
    # Variables such as CFLAGS, LOCALVERSION or MAKEFLAGS of the caller must not reach the kernel's build.
    env = {k: os.environ[k] for k in ("PATH", "HOME", "TMPDIR") if k in os.environ} | {"LC_ALL": "C"}
    with log.open("ab") as file:
        status = subprocess.run(
            command, cwd=tree, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        ).returncode
    if status:
        kept = cache_directory() / "failed-build.log"
        shutil.copy(log, kept)
        tail = "".join(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"'{' '.join(command)}' failed:\n{tail}", hint=f"the whole log is {kept}")


def check_config(version: str, config: Path) -> None:
    """Kconfig silently drops an option whose dependencies are unmet; a test would find out much later."""
    wanted, got = read_config(FRAGMENT), read_config(config)
    accepted = ACCEPTED_LOSSES[version]
    lost = [
        f"{name}={value} (is {got.get(name, 'n')})"
        for name, value in wanted.items()
        if got.get(name, "n") != value and name not in accepted
    ]
    if lost:
        raise LabError(
            f"the {version} kernel's configuration lost: {', '.join(lost)}",
            hint=f"add what they depend on to {FRAGMENT}, or name them in ACCEPTED_LOSSES with the reason",
        )


def read_config(path: Path) -> dict[str, str]:
    """The CONFIG_ lines of a fragment or of a .config."""
    lines = (line.partition("=") for line in path.read_text().splitlines() if line.startswith("CONFIG_"))
    return {name: value for name, _, value in lines}


def require_init() -> Path:
    """The guest's init, compiled if its source has changed; apart from the kernel, which takes minutes."""
    digest = hashlib.sha256(INIT_SOURCE.read_bytes()).hexdigest()[:10]
    final = cache_directory() / f"init-{digest}"
    if final.exists():
        return final
    packages.need_programs({"gcc": "build-essential"})
    with locked("init"), scratch("init-build") as directory:
        result = directory / "init"
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-static", "-s", "-o", str(result), str(INIT_SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            hint = "sudo apt-get install libc6-dev"
            raise LabError(f"cannot compile the guest's init:\n{done.stderr}", hint=hint)
        result.rename(final)
    return final
