"""Debian packages that the lab needs: installed when root, named when not."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import LabError

BACKPORTS_LIST = Path("/etc/apt/sources.list.d/kl2tp-lab.list")
# Wait for another apt instead of failing; download as root, since _apt cannot write to a private directory.
APT_OPTIONS = ("-o", "DPkg::Lock::Timeout=300", "-o", "APT::Sandbox::User=root")


def say(message: str) -> None:
    """Progress goes to stderr: stdout belongs to the command."""
    print(f"lab: {message}", file=sys.stderr, flush=True)


def need_programs(programs: Mapping[str, str]) -> None:
    """Make sure that each program (key) is there, by installing the package (value) that has it."""
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if missing:
        install(missing)


def need_packages(packages: Sequence[str]) -> None:
    """Make sure that packages are installed."""
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        install(missing)


def is_installed(package: str) -> bool:
    """Whether dpkg has it unpacked and configured."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def install(packages: Sequence[str]) -> None:
    """Install packages, or say what to type."""
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        raise LabError(f"missing packages: {' '.join(packages)}", hint=f"sudo {' '.join(command)}")
    say(f"installing {' '.join(packages)}")
    if apt(command) != 0:
        apt(["apt-get", "update"])
        if (status := apt(command)) != 0:
            raise LabError(f"'{' '.join(command)}' failed: status {status}", hint="run it by hand to see why")


def apt(command: Sequence[str], cwd: Path | None = None) -> int:
    """Run apt-get quietly; its errors are shown."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet = [command[0], "-qq", *APT_OPTIONS, *command[1:]]
    try:
        return subprocess.run(
            quiet, env=env, cwd=cwd, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ).returncode
    except FileNotFoundError:
        raise LabError("there is no apt-get", hint="the lab needs Debian 12 or newer") from None


def candidate(package: str) -> str:
    """The version of a package that apt would install; empty if it knows none."""
    try:
        env = {**os.environ, "LC_ALL": "C"}
        command = ["apt-cache", "policy", package]
        policy = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    for line in policy.splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "Candidate" and value != "(none)":
            return value
    return ""


def find_candidate(package: str) -> str:
    """Like candidate(), and does for it what may be missing: package lists, the backports suite."""
    if version := candidate(package):
        return version
    if os.geteuid() == 0:
        apt(["apt-get", "update"])
        if version := candidate(package):
            return version
        add_backports()
        if version := candidate(package):
            return version
    raise LabError(
        f"apt knows no package {package}",
        hint="sudo apt-get update; if it is in a suite that you lack (bookworm-backports), add that",
    )


def add_backports() -> None:
    """Add bookworm-backports, on bookworm only, and once."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    if release != "bookworm" or BACKPORTS_LIST.exists():
        return
    say(f"adding bookworm-backports in {BACKPORTS_LIST}")
    BACKPORTS_LIST.write_text("deb http://deb.debian.org/debian bookworm-backports main\n")
    apt(["apt-get", "update"])
