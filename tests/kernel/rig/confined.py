"""What systemd takes away from a service, taken away from a child: user, capabilities, system calls, address families.

By the unit's own file. What needs mounts or control groups (ProtectSystem=, DeviceAllow=) is not played.
"""

import ctypes
import ctypes.util
import functools
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

UNITS = Path(__file__).parents[3] / "systemd"
USER = 1701
"""Number of a user and a group that own nothing."""
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")
_KEEPCAPS, _CAPBSET_DROP, _NO_NEW_PRIVS, _AMBIENT, _AMBIENT_RAISE = 8, 24, 38, 47, 2
_CAPABILITY_VERSION = 0x20080522
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16, "AF_PPPOX": 24}
_WRITE, _EXEC = 2, 4
_ALLOW, _EPERM = 0x7FFF0000, 0x00050000 | 1
_EQUAL, _MASKED_EQUAL = 4, 7
_NAMESPACES = ("setns", "unshare")


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of libseccomp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class Rights:
    """What a unit leaves to its process."""

    capabilities: tuple[int, ...]
    calls: frozenset[str]
    """System calls, by name."""
    families: tuple[int, ...]


def rights(name: str) -> Rights:
    """Those of a unit in `systemd/`."""
    settings: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, _, value = line.partition("=")
        settings.setdefault(key, []).append(value)
    ambient = " ".join(settings.get("AmbientCapabilities", [])).split()
    families = " ".join(settings["RestrictAddressFamilies"]).split()
    assert settings["RestrictNamespaces"] == settings["MemoryDenyWriteExecute"] == ["yes"]
    return Rights(
        tuple(_CAPABILITIES[capability] for capability in ambient),
        frozenset(_calls(settings["SystemCallFilter"]) - {*_NAMESPACES}),
        tuple(_FAMILIES[family] for family in families),
    )


def _calls(lines: list[str]) -> set[str]:
    """What SystemCallFilter= lines allow, as systemd reads them: the first makes it a list of what is allowed."""
    allowed: set[str] = set()
    for line in lines:
        names = set().union(*(_expand(word) for word in line.removeprefix("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


@functools.cache
def _expand(word: str) -> frozenset[str]:
    """The system calls of a set; a name is one itself."""
    if not word.startswith("@"):
        return frozenset((word,))
    command = ["systemd-analyze", "syscall-filter", "--no-pager", word]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = [line.strip() for line in said.splitlines() if re.match(r"\s+[@\w]", line)]
    return frozenset().union(*(_expand(inner) for inner in words if inner != word))


def confine(left: Rights, user: int) -> Callable[[], None]:
    """For `preexec_fn`."""
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = _seccomp()
    last = int(_LAST_CAPABILITY.read_text())

    def checked(result: int, what: str) -> None:
        if result < 0:
            raise OSError(ctypes.get_errno() or -result, what)

    def apply() -> None:
        for number in range(last + 1):
            if number not in left.capabilities:
                checked(libc.prctl(_CAPBSET_DROP, number, 0, 0, 0), "the bounding set")
        checked(libc.prctl(_KEEPCAPS, 1, 0, 0, 0), "capabilities")
        os.setgroups([user])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        os.umask(0o077)
        mask = sum(1 << number for number in left.capabilities)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        checked(libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)), "capabilities")
        for number in left.capabilities:
            checked(libc.prctl(_AMBIENT, _AMBIENT_RAISE, number, 0, 0), "ambient capabilities")
        checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
        _filter(seccomp, left, checked)

    return apply


def _seccomp() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def _filter(seccomp: ctypes.CDLL, left: Rights, checked: Callable[[int, str], None]) -> None:
    """Have the kernel refuse all other system calls, and memory that is both written to and executed."""
    context = ctypes.c_void_p(seccomp.seccomp_init(_EPERM))
    none, one = ctypes.c_uint(0), ctypes.c_uint(1)
    add = seccomp.seccomp_rule_add_array
    special: dict[str, list[_Comparison]] = {
        "socket": [_Comparison(0, _EQUAL, family, 0) for family in left.families],
        "mmap": [_Comparison(2, _MASKED_EQUAL, _WRITE | _EXEC, value) for value in (0, _WRITE, _EXEC)],
        "mprotect": [_Comparison(2, _MASKED_EQUAL, _EXEC, 0)],
        "pkey_mprotect": [_Comparison(2, _MASKED_EQUAL, _EXEC, 0)],
    }
    for name in left.calls:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # of another machine
        for comparison in special.get(name, ()):
            checked(add(context, _ALLOW, number, one, ctypes.byref(comparison)), name)
        if name not in special:
            checked(add(context, _ALLOW, number, none, None), name)
    checked(seccomp.seccomp_load(context), "the filter of system calls")


def available() -> bool:
    """Whether this machine has what it takes."""
    try:
        _seccomp()
        subprocess.run(["systemd-analyze", "--version"], capture_output=True, check=True)
    except OSError:
        return False
    return True
