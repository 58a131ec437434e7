"""What the daemon tells systemd: sd_notify(3) with descriptors, without libsystemd.

Where no service manager listens (`NOTIFY_SOCKET` is not set) everything here does nothing.
"""

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Sequence

FDS_PER_MESSAGE = 253
"""SCM_MAX_FD: the kernel refuses more."""
_FIRST_FD = 3
_PATIENCE_S = 5.0


def send(state: str, fds: Sequence[int] = (), *, wait: bool = True) -> bool:
    """Send `NAME=value` lines, with descriptors. Whether the message is on its way.

    A manager that does not read must not hold the daemon up for long: with `wait` some seconds, without it
    not at all.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return False
    address = "\0" + path[1:] if path[0] == "@" else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifications:
        notifications.settimeout(_PATIENCE_S if wait else 0)
        try:
            notifications.connect(address)
            socket.send_fds(notifications, [state.encode()], list(fds))
        except OSError:
            return False
    return True


def ready(status: str = "") -> bool:
    """Start, or reload, is complete."""
    return send(_lines("READY=1", _status(status)))


def reloading() -> bool:
    """A reload begins; `ready` ends it. The time is what `Type=notify-reload` asks for."""
    now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return send(_lines("RELOADING=1", f"MONOTONIC_USEC={now_us}"))


def stopping() -> bool:
    """The daemon is on its way out."""
    return send("STOPPING=1")


def status(text: str) -> bool:
    """One line for `systemctl status`."""
    return send(_status(text), wait=False)


def extend_timeout(seconds: float) -> bool:
    """Ask for that much more time to start or stop."""
    return send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}", wait=False)


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}" if text else ""


# The watchdog


def watchdog_interval() -> float | None:
    """Seconds between signs of life: half of what the manager allows. None if it does not watch us."""
    pid = os.environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    try:
        allowed = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return allowed / 2_000_000 if allowed > 0 else None


async def watchdog() -> None:
    """Give signs of life for as long as the event loop runs. Returns at once if nobody watches."""
    interval = watchdog_interval()
    if interval is None:
        return
    while True:
        send("WATCHDOG=1", wait=False)
        await asyncio.sleep(interval)


# Descriptors that outlive us


def store(name: str, fds: Sequence[int]) -> bool:
    """Leave descriptors with the manager, which gives them to the next start (`FileDescriptorStoreMax=`).

    `FDPOLL=0`: it shall keep them whatever happens to them; an ICMP error alone would make it drop a UDP
    socket.
    """
    message = f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0"
    return all(send(message, part) for part in _parts(fds)) and bool(fds)


def forget(name: str) -> bool:
    """Have the manager close what it keeps under a name."""
    return send(f"FDSTOREREMOVE=1\nFDNAME={name}")


def _parts(fds: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(fds), FDS_PER_MESSAGE):
        yield fds[start : start + FDS_PER_MESSAGE]


def inherited() -> dict[str, list[int]]:
    """What the manager gave us: descriptors by name. They are closed on exec; the caller owns them.

    The environment forgets them, so that a second call, or a child, does not take them again.
    """
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found: dict[str, list[int]] = {}
    for index in range(int(count)):
        os.set_inheritable(_FIRST_FD + index, False)
        name = names[index] if index < len(names) else ""
        found.setdefault(name or "unknown", []).append(_FIRST_FD + index)
    return found
