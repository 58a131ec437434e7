"""Findings about what only calls need: the keeper, /dev/ppp, descriptors, forwarding, files with secrets, hooks."""

import os
import resource
import stat
from collections.abc import Iterator

from kl2tp.access import secretfile
from kl2tp.access.secretfile import SecretFileError
from kl2tp.access.secrets import TunnelSecrets
from kl2tp.access.users import Users
from kl2tp.config import ConfigError
from kl2tp.doctor.files import SHOWN, as_daemon
from kl2tp.doctor.limits import FDS
from kl2tp.doctor.machine import Machine
from kl2tp.kernel.finding import Finding, fail, ok, warn
from kl2tp.kernel.probe import CAP_NET_RAW, capable, some
from kl2tp.kernel.scratch import PPP_NODE
from kl2tp.model.calls import LnsSpec, PoolSpec
from kl2tp.model.desired import Desired

KEEPER_LOCK = "keeper.lock"
FDS_PER_SESSION = 4
"""The session's socket, its PPP channel and device; and the socket of a tunnel that it may have to itself."""
_CREDENTIAL = "credential:"


def calls(machine: Machine, desired: Desired | None, run_dir: str) -> Iterator[Finding]:
    """All of them, where calls are configured."""
    if desired is None or not desired.calls:
        return
    yield from keeper(machine, run_dir)
    yield from ppp_node(machine, run_dir)
    yield from descriptors(machine, desired)
    yield from forwarding(machine, desired)
    yield from advertisements(desired)
    yield from ipv6(machine, desired)
    yield from secrets(desired, run_dir)
    yield from hooks(desired, run_dir)


def keeper(machine: Machine, run_dir: str) -> Iterator[Finding]:
    """Whether somebody holds calls while the daemon is away. (To ask it would take it from the daemon.)"""
    if (number := machine.locker(os.path.join(run_dir, KEEPER_LOCK))) is not None:
        yield ok(f"the keeper runs (process {number})")
    else:
        why = "calls end with the daemon, also when it crashes or is upgraded"
        yield warn(f"no keeper runs for {run_dir}", why, "systemctl enable --now kl2tp-keeper")


def ppp_node(machine: Machine, run_dir: str) -> Iterator[Finding]:
    """Whether the daemon's user may open /dev/ppp; that it is there, and works, is a feature of the kernel."""
    node = machine.status(PPP_NODE)
    try:
        daemon = os.stat(run_dir)
    except OSError:
        return
    if node is None or _may_use(node, daemon.st_uid, daemon.st_gid):
        return
    mend = f"chgrp {daemon.st_gid} {PPP_NODE} && chmod 660 {PPP_NODE}   # `make install` has a udev rule for that"
    yield fail(f"the daemon's user {daemon.st_uid} may not open {PPP_NODE}", "no call gets a device", mend)


def _may_use(node: os.stat_result, user: int, group: int) -> bool:
    """Whether permissions let a user read and write a file."""
    if user == 0:
        return True
    shift = 6 if node.st_uid == user else 3 if node.st_gid == group else 0
    return stat.S_IMODE(node.st_mode) >> shift & 0o6 == 0o6


def sessions(desired: Desired) -> int:
    """How many sessions there can be."""
    sizes = {pool.name: _size(pool) for pool in desired.pools}
    return len(desired.lac) + sum(_most(lns, sizes) for lns in desired.lns)


def _most(lns: LnsSpec, sizes: dict[str, int]) -> int:
    """Of one profile. (Users with addresses of their own are not many.)"""
    return min(lns.limits.sessions, sizes.get(lns.ppp.pool, lns.limits.sessions))


def _size(pool: PoolSpec) -> int:
    total = 0
    for first, last in pool.ranges:
        shift = len(first) * 8 - pool.prefix_length
        total += (int.from_bytes(last) - int.from_bytes(first) >> shift) + 1
    return total


def descriptors(machine: Machine, desired: Desired) -> Iterator[Finding]:
    """Files that may be open at once, for as many sessions as there can be."""
    count = sessions(desired)
    want = FDS + FDS_PER_SESSION * count
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = machine.number("/proc/sys/fs/nr_open")
    why = f"{count:,} sessions, which the profiles allow, take {want:,}"
    if most is not None and most < want:
        yield warn(f"fs.nr_open is {most:,}", why, f"sysctl -w fs.nr_open={want}; in kl2tp.service: LimitNOFILE={want}")
    elif hard != resource.RLIM_INFINITY and hard < want:
        mend = f"under systemd: LimitNOFILE={max(want, 1 << 20)}; or lower limits: {{sessions: N}}"
        yield warn(f"the limit of open files is {hard:,} here", why, mend)
    else:
        yield ok(f"open files for {count:,} sessions: {want:,}")


def forwarding(machine: Machine, desired: Desired) -> Iterator[Finding]:
    """Whether an LNS passes on what its callers send. Of other namespaces nothing is known here."""
    here = [lns for lns in desired.lns if not lns.interface.netns]
    wanted = [("net.ipv4.ip_forward", any(lns.ppp.ipv4 for lns in here))]
    wanted += [("net.ipv6.conf.all.forwarding", any(lns.ppp.ipv6 for lns in here))]
    for name, needed in wanted:
        if needed and machine.sysctl(name) == "0":
            why = "callers reach this host, and nothing behind it"
            yield warn(f"{name} is 0", why, f"sysctl -w {name}=1   # to stay: in /etc/sysctl.d")


def advertisements(desired: Desired) -> Iterator[Finding]:
    """Whether callers can be told their IPv6 prefix."""
    if any(lns.ppp.ipv6 for lns in desired.lns) and not capable(CAP_NET_RAW):
        why = "callers are told no IPv6 prefix: router advertisements need a raw socket"
        yield warn("this user has no capability CAP_NET_RAW", why, "sudo kl2tp doctor")


def ipv6(machine: Machine, desired: Desired) -> Iterator[Finding]:
    """Whether devices of calls with IPv6 can have it."""
    users = [p.name for p in desired.calls if p.ppp.ipv6 and not p.interface.netns]
    name = "net.ipv6.conf.default.disable_ipv6"
    if users and machine.sysctl(name) == "1":
        why = f"calls of {some(users)} do not come up: their devices are to have IPv6"
        yield fail(f"{name} is 1", why, f"sysctl -w {name}=0, or ppp: {{ipv6: false}}")


def secrets(desired: Desired, run_dir: str) -> Iterator[Finding]:
    """Whether users, tunnel secrets and passwords are there, readable for the daemon alone, and mean something."""
    bad: list[tuple[str, str]] = []
    with as_daemon(run_dir):
        users, problems = _users(desired)
        bad += problems
        shared = {p.control.secret_file for p in desired.calls}
        for path in sorted(shared - {""}):
            bad += _problems(path, password=False)
        for path in sorted({lac.password_file for lac in desired.lac} - {""}):
            bad += _problems(path, password=True)
    for what, mend in bad[:SHOWN]:
        yield fail(what, "its calls stay down", mend)
    if len(bad) > SHOWN:
        yield fail(f"{len(bad) - SHOWN:,} more problems in files with secrets", "their calls stay down")
    if users is not None and desired.users.files:
        yield ok(f"{len(users):,} users")
        yield from (warn(f"{warning.where}: {warning.message}", warning.hint) for warning in users.warnings[:SHOWN])


def _users(desired: Desired) -> tuple[Users | None, list[tuple[str, str]]]:
    """All users, or what is wrong with their files."""
    if any(path.startswith(_CREDENTIAL) for path in desired.users.files):
        return None, []  # only the unit has them
    try:
        return Users(desired.users.files), []
    except ConfigError as error:
        return None, _said(error)


def _problems(path: str, *, password: bool) -> list[tuple[str, str]]:
    """What is wrong with one file; nothing is known of credentials, which only the unit has."""
    if path.startswith(_CREDENTIAL):
        return []
    try:
        if password:
            secretfile.read(path, 4096)
        else:
            TunnelSecrets(path)
    except SecretFileError as error:
        return [(f"{error.path}: {error.problem}", _command(error.hint))]
    except ConfigError as error:
        return _said(error)
    return []


def _said(error: ConfigError) -> list[tuple[str, str]]:
    return [
        (f"{problem.where if problem.where.line else problem.where.file}: {problem.message}", _command(problem.hint))
        for problem in error.problems
    ]


def _command(hint: str) -> str:
    return hint.removeprefix("make one: ").removeprefix("mend it: ")


def hooks(desired: Desired, run_dir: str) -> Iterator[Finding]:
    """Whether the daemon can run the programs that are to be told of sessions."""
    programs = {program for p in desired.calls for program in (p.hooks.up, p.hooks.down) if program}
    with as_daemon(run_dir):
        bad = [name for name in sorted(programs) if not os.access(name, os.X_OK, effective_ids=True)]
    for name in bad:
        missing = not os.path.exists(name)
        mend = "" if missing else f"chmod 755 {name}"
        yield warn(f"{name} {'is not there' if missing else 'cannot be run'}", "a hook needs it", mend)
