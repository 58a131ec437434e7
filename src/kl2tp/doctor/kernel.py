"""Findings about the kernel: its version, its weak spots at scale, and every feature, tried."""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

from kl2tp.doctor.machine import Machine
from kl2tp.kernel.features import ESSENTIAL, FEATURES, PPP, attempt, lacking, needed
from kl2tp.kernel.finding import Finding, fail, ok, warn
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.scratch import PPP_NODE, enter_scratch, scratch
from kl2tp.model.desired import Desired

OLDEST = (5, 4)


@dataclass(frozen=True, slots=True)
class WeakSpot:
    """Something that slows kernels down which are older than `fixed`, from some number of tunnels on."""

    fixed: tuple[int, int]
    tunnels: int
    what: str
    mend: str


WEAK_SPOTS = (
    WeakSpot(
        (6, 3),
        2000,
        "each command searches the list of all tunnels: making n tunnels takes time with the square of n",
        "use kernel 6.3 or newer",
    ),
    WeakSpot(
        (6, 12),
        2000,
        "reading all tunnels takes time with the square of their number: a second for 10,000, twice",
        "use kernel 6.12 or newer, or a longer daemon.resync_interval",
    ),
    WeakSpot(
        (6, 12),
        200,
        "deleting a session waits up to 35 ms for every processor, and all other L2TP commands with it",
        "echo 1 > /sys/kernel/rcu_expedited",
    ),
    WeakSpot(
        (6, 13),
        1000,
        "tunnels that share a local address and UDP port slow each other down: 100 us a packet at 10,000",
        "give tunnels ports of their own, or encapsulation ip, or use kernel 6.13 or newer",
    ),
)


def version(machine: Machine) -> Iterator[Finding]:
    """Whether the kernel is new enough at all."""
    if machine.version() < OLDEST:
        why = f"kl2tp needs {OLDEST[0]}.{OLDEST[1]} or newer"
        yield fail(f"kernel {machine.release} is too old", why, "install a newer kernel")
    else:
        yield ok(f"kernel {machine.release}")


def weak_spots(machine: Machine, tunnels: int) -> Iterator[Finding]:
    """What this version does badly with many tunnels; of weight only where there are that many."""
    for spot in WEAK_SPOTS:
        if machine.version() >= spot.fixed or (spot.mend.startswith("echo 1 > ") and _expedited(machine)):
            continue
        before = f"before {spot.fixed[0]}.{spot.fixed[1]}"
        if tunnels >= spot.tunnels:
            yield warn(f"kernels {before}: {spot.what}", f"{tunnels:,} tunnels are configured", spot.mend)
        else:
            yield ok(f"kernels {before}, from about {spot.tunnels:,} tunnels on: {spot.what}")


def _expedited(machine: Machine) -> bool:
    return machine.number("/sys/kernel/rcu_expedited") == 1


def features(desired: Desired | None) -> Iterator[Finding]:
    """Every feature, tried in a namespace of its own."""
    wanted = needed(desired) if desired and (desired.tunnels or desired.calls) else set(ESSENTIAL)
    try:
        results = _tried()
    except KernelError as error:
        why = f"what this kernel can do was not tried: {error}"
        yield warn("no network namespace for trials", why, "sudo kl2tp doctor")
        return
    needless: dict[str, KernelError] = {}
    for key, problem in results.items():
        if problem is None:
            yield ok(FEATURES[key].name)
        elif key == PPP and problem.code == errno.EACCES:  # root may open it always
            yield warn("PPP was not tried", f"this user may not open {PPP_NODE}", "sudo kl2tp doctor")
        elif key in wanted:
            yield lacking(key, problem, why="the configuration needs it" if desired else "kl2tp is nothing without it")
        else:
            needless[key] = problem
    if needless:
        names = ", ".join(FEATURES[key].name for key in needless)
        why = "nothing in the configuration needs it" if desired else "some configurations need it"
        mend = "; ".join(dict.fromkeys(lacking(key, error).mend for key, error in needless.items()))
        yield warn(f"this kernel lacks: {names}", why, mend)


def _tried() -> dict[str, KernelError | None]:
    """All features. Without privileges in a child process, in a user namespace. Raises KernelError."""
    try:
        with scratch() as space:
            return attempt(space, FEATURES)
    except KernelError as error:
        if error.code != errno.EPERM:
            raise
    return _tried_by_child()


def _tried_by_child() -> dict[str, KernelError | None]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _report(writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as results:
        text = results.read()
    os.waitpid(child, 0)
    found = json.loads(text or "null")
    if not isinstance(found, dict):
        raise KernelError(errno.EPERM)
    return {key: KernelError(*error) if error else None for key, error in found.items()}


def _report(writer: int) -> None:
    """The child: tries, writes the results, and ends without a trace. Never returns."""
    try:
        found = attempt(enter_scratch(), FEATURES)
        plain = {key: [error.code, error.detail] if error else None for key, error in found.items()}
        # Where nothing at all is allowed, the namespace was there in name only.
        allowed = not all(error is not None and error.code == errno.EPERM for error in found.values())
        os.write(writer, json.dumps(plain if allowed else None).encode())
    except OSError:
        os._exit(1)
    finally:
        os._exit(0)
