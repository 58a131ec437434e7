"""What to run, independent of the kernel that it runs on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Not DISPLAY, SSH_AUTH_SOCK and the like: they name things of the host that a guest cannot reach.
PASSED_VARIABLES = frozenset({
    "CI", "COLUMNS", "FORCE_COLOR", "HOME", "LANG", "LINES", "LOGNAME", "NO_COLOR", "PATH", "PY_COLORS",
    "SHELL", "SOURCE_DATE_EPOCH", "TERM", "TZ", "USER", "VIRTUAL_ENV",
})  # fmt: skip
PASSED_PREFIXES = ("LC_", "PYTHON", "PYTEST_", "HYPOTHESIS_", "KL2TP_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One command and the conditions it runs under."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    writable: tuple[Path, ...] = ()
    memory: str = "3G"
    timeout: float = 1800
    interactive: bool = False
    verbose: bool = False

    @property
    def command_line(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.argv)


def guest_environment(host: Mapping[str, str], extra: Iterable[str], *, kernel: str) -> dict[str, str]:
    """The variables that a command gets: a fixed choice of the host's, LAB_KERNEL, then those asked for."""
    env = {k: v for k, v in host.items() if k in PASSED_VARIABLES or k.startswith(PASSED_PREFIXES)}
    env.setdefault("PATH", os.defpath)
    env["PATH"] = with_system_directories(env["PATH"])
    env["LAB_KERNEL"] = kernel
    for item in extra:
        name, equals, value = item.partition("=")
        env[name] = value if equals else host.get(name, "")
    return env


def with_system_directories(path: str) -> str:
    """Root needs ip(8) and nft(8), which an ordinary user's PATH lacks."""
    parts = path.split(os.pathsep)
    return os.pathsep.join(parts + [d for d in ("/usr/sbin", "/sbin") if d not in parts])
