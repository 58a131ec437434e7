"""Runs a job in a User Mode Linux guest: the kernel is an ordinary process of the host."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from .build import Kernel, require, require_init
from .cache import scratch
from .errors import Exit, LabError
from .guest import Guest, encode_job
from .job import Job
from .process import prepare_child

OUT_OF_MAPPINGS = b"vm.max_map_count has been reached"
PIPE_SIZE = 1 << 20  # the guest need not wait for a reader that is a little slow
_ADDR_NO_RANDOMIZE = 0x0040000
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_libc = ctypes.CDLL(None)


def run(job: Job, version: str) -> int:
    """Run a job on the kernel of that version; returns the exit code for the caller's own exit."""
    memory_directory(job.memory)  # a mistake there should not wait for a build
    kernel, init = require(version), require_init()
    with scratch("run") as directory:
        return UmlGuest(job, directory, kernel, init).run()


class UmlGuest(Guest):
    """A guest whose console is one pipe, and whose tty to init is two others."""

    def __init__(self, job: Job, directory: Path, kernel: Kernel, init: Path) -> None:
        super().__init__(job, directory)
        self.kernel = kernel
        self.init = init

    def start(self, stack: ExitStack) -> subprocess.Popen[bytes]:
        """See Guest."""
        log_read, log_write = os.pipe()
        from_guest, guest_out = os.pipe()
        guest_in, to_guest = os.pipe()
        for fd in (log_read, from_guest, to_guest):
            stack.callback(os.close, fd)
            with suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        try:
            process = subprocess.Popen(
                self.command_line(guest_in, guest_out),
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                pass_fds=(guest_in, guest_out),
                env={"TMPDIR": str(memory_directory(self.job.memory)), "HOME": str(self.directory)},
                start_new_session=True,
                preexec_fn=prepare_kernel,
            )
        finally:
            for fd in (log_write, guest_in, guest_out):
                os.close(fd)
        self.watch_log(log_read)
        self.connect(from_guest, to_guest)
        return process

    def closing_note(self) -> str:
        """A process of more than 256 MB, touched at random, needs more mappings than hosts allow by default."""
        if OUT_OF_MAPPINGS not in self.log:
            return ""
        return (
            "a process in the guest was killed: it needs more memory mappings than this machine allows"
            "\n  hint: sudo sysctl vm.max_map_count=1048576"
        )

    def command_line(self, guest_in: int, guest_out: int) -> list[str]:
        """The kernel's own command line; what it does not know becomes init's environment."""
        return [
            str(self.kernel.image),
            f"mem={self.job.memory}",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"init={self.init}",
            f"LAB_JOB={encode_job(self.job, self.directory)}",
            "con=null",
            "con0=null,fd:1",
            f"con1=fd:{guest_in},fd:{guest_out}",
            f"uml_dir={self.directory}/",
            "umid=guest",
            "panic=-1",
            "dummy.numdummies=0",
            "random.trust_cpu=on",
        ]


def prepare_kernel() -> None:
    """In the kernel's process before exec.

    The kernel counts the gap between its image and its heap as memory: with address randomization that is up
    to 1 GiB more to set up at boot, for nothing.
    """
    prepare_child()
    _libc.personality(_ADDR_NO_RANDOMIZE)


def memory_directory(memory: str) -> Path:
    """Where the memory file goes: fast, big enough, and not mounted noexec, which User Mode Linux refuses."""
    size = parse_size(memory)
    candidates = [Path("/dev/shm"), Path(tempfile.gettempdir())]
    for path in candidates:
        with suppress(OSError):
            facts = os.statvfs(path)
            if not facts.f_flag & os.ST_NOEXEC and facts.f_bavail * facts.f_frsize >= size:
                return path
    raise LabError(
        f"no room for {memory} of guest memory in {' or '.join(map(str, candidates))}",
        hint="ask for less (--mem 1G), or set TMPDIR to a directory with more room, not mounted noexec",
    )


def parse_size(text: str) -> int:
    """Bytes in a size such as 512M or 3G."""
    if not (match := re.fullmatch(r"([1-9][0-9]*)([KMG]?)", text)):
        raise LabError(f"not a size: {text!r}", hint="write it like 512M or 3G", code=Exit.USAGE)
    return int(match[1]) * _UNITS[match[2]]
