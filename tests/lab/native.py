"""Runs a job on the host's own kernel, in namespaces of its own."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
import subprocess

from .errors import Exit, LabError
from .features import missing_features
from .job import Job
from .process import Interrupted, adopt_orphans, complain, interruptible, kill_session

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_REC_PRIVATE = 0x44000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)


def run(job: Job) -> int:
    """Run a job in a new network and mount namespace; everything else is the host's."""
    if os.geteuid() != 0:
        raise LabError("--kernel native needs root", hint="use sudo, or --kernel 6.12, which needs no root")
    enter_namespaces()
    if missing := missing_features():
        raise LabError(
            f"this machine's kernel ({platform.release()}) lacks: {'; '.join(missing)}",
            hint="load the modules (modprobe -a l2tp_ppp l2tp_eth l2tp_ip esp4), or use --kernel 6.12",
        )
    adopt_orphans()
    try:
        process = subprocess.Popen(job.argv, env=dict(job.env), cwd=job.cwd, start_new_session=True)
    except OSError as error:
        complain(f"cannot run {job.argv[0]}: {error.strerror}")
        return Exit.NOT_FOUND if isinstance(error, FileNotFoundError) else Exit.CANNOT_RUN
    with interruptible():
        try:
            status = process.wait(job.timeout)
        except subprocess.TimeoutExpired:
            complain(f"no end after {job.timeout:g} s (--timeout): {job.command_line}")
            return Exit.TIMEOUT
        except Interrupted as interrupted:
            return 128 + interrupted.number
        finally:
            kill_session(process)
    return status if status >= 0 else 128 - status


def enter_namespaces() -> None:
    """New network and mount namespaces, with /sys and named network namespaces to match, and loopback up."""
    check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")
    check(_libc.mount(None, b"/", None, _MS_REC_PRIVATE, None), "make mounts private")
    check(_libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None), "mount /sys")
    os.makedirs("/run/netns", exist_ok=True)
    check(_libc.mount(b"tmpfs", b"/run/netns", b"tmpfs", 0, None), "mount /run/netns")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def check(result: int, what: str) -> None:
    """Turn libc's -1 into an error."""
    if result != 0:
        error = ctypes.get_errno()
        raise LabError(f"cannot {what}: {os.strerror(error)}", hint="in a container, use --kernel 6.12")
