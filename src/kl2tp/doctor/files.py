"""Findings about kl2tp's own files: configuration, keys, run directory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kl2tp.config import ConfigError, load
from kl2tp.ipsec.keys import KeyFileError, read
from kl2tp.kernel.finding import Finding, fail, ok, warn
from kl2tp.model.desired import Desired

SHOWN = 10
"""Key files of which each gets a finding of its own."""


def configuration(path: str) -> tuple[Desired | None, list[Finding]]:
    """The configuration if it is valid, and what is to say about it."""
    try:
        if not os.path.exists(path):
            return None, [warn(f"there is no {path} yet", "nothing is declared", "kl2tp schema")]
        desired = load(Path(path))
    except ConfigError as error:
        what = f"{path} has {len(error.problems)} problem{'' if len(error.problems) == 1 else 's'}"
        return None, [fail(what, str(error.problems[0].message), f"kl2tp validate {path}")]
    except PermissionError:
        return None, [warn(f"{path} cannot be read", "it was not checked", "sudo kl2tp doctor")]
    calls = f", {len(desired.calls):,} profiles of calls" if desired.calls else ""
    return desired, [ok(f"{path} is valid: {len(desired.tunnels):,} tunnels{calls}")]


@contextmanager
def as_daemon(run_dir: str) -> Iterator[None]:
    """Run the block with the rights of the daemon's user, as far as its run directory tells who that is."""
    try:
        owner = os.stat(run_dir)
    except OSError:
        owner = None
    if owner is None or owner.st_uid == 0 or os.geteuid() != 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def keys(desired: Desired | None, run_dir: str) -> Iterator[Finding]:
    """Whether every key file is there, readable for the daemon alone, and holds keys."""
    names = {t.ipsec.key_file for t in desired.tunnels if t.ipsec} if desired else set()
    names |= {t.secret_file for t in desired.tunnels if t.secret_file} if desired else set()
    bad: list[KeyFileError] = []
    without_seed: list[str] = []
    with as_daemon(run_dir):
        for name in sorted(names):
            try:
                found = read(name)
            except KeyFileError as error:
                bad.append(error)
                continue
            if found.shared and not found.cookie_seed:
                without_seed.append(name)
    for problem in bad[:SHOWN]:
        where = f"{problem.path}:{problem.line}" if problem.line else problem.path
        yield fail(
            f"{where}: {problem.problem}",
            "its tunnels stay down",
            problem.hint.removeprefix("make one: ").removeprefix("mend it: "),
        )
    if len(bad) > SHOWN:
        yield fail(f"{len(bad) - SHOWN:,} more key files have problems", "their tunnels stay down", "kl2tp plan")
    if names and not bad:
        yield ok(f"{len(names):,} key files, each readable for its owner only")
    if desired:
        yield from _cookies(desired, without_seed)


def _cookies(desired: Desired, without_seed: list[str]) -> Iterator[Finding]:
    """Whether a change of keys would change cookies, and so break what sessions carry until both ends have changed."""
    derived = {
        spec.ipsec.key_file
        for spec in desired.tunnels
        if spec.ipsec and not spec.secret_file and any(s.cookie.local is None for s in spec.sessions)
    }
    tied = [name for name in without_seed if name in derived]
    why = "derived cookies change with its key, and sessions are made anew; add one, and copy the file to the peer"
    for name in tied[:SHOWN]:
        yield warn(f"{name} has no `cookie` line", why, f"kl2tp genkey | sed s/key/cookie/ >> {name}")
    if len(tied) > SHOWN:
        yield warn(f"{len(tied) - SHOWN:,} more key files have no `cookie` line", why, "grep -L ^cookie FILES")


def run_directory(path: str) -> Iterator[Finding]:
    """Whether the ledger and the socket have a place."""
    place = path
    while not os.path.exists(place):
        place = os.path.dirname(place) or "/"
    if not os.path.isdir(place):
        yield fail(f"{place} is no directory", f"the ledger is kept in {path}", f"rm {place}")
    elif not os.access(place, os.W_OK | os.X_OK):
        yield warn(f"{place} is not writable for this user", f"the ledger is kept in {path}", "sudo kl2tp doctor")
    else:
        yield ok(f"{path} is writable")
    yield from _durable(path)


def _durable(path: str) -> Iterator[Finding]:
    """The ledger may go with a reboot, as tunnels do, but not before."""
    if os.path.realpath(path).startswith(("/tmp/", "/var/tmp/")):
        why = "who may write there may forget what kl2tp made, and programs that clean up may delete it"
        yield warn(f"{path} is a place for temporary files", why, "use --run-dir /run/kl2tp")
