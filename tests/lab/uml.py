"""Runs a job in a User Mode Linux guest: one boot, one command, nothing left behind."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from .build import Kernel, require, require_init
from .cache import scratch
from .errors import Exit, LabError
from .job import Job
from .process import Interrupted, complain, interruptible
from .terminal import raw_terminal, window_size
from .wire import MAX_TO_GUEST, Decoder, FromGuest, ToGuest, encode

LOG_TAIL_LINES = 25
LOG_KEPT_BYTES = 64 * 1024
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_PR_SET_PDEATHSIG = 1
_ADDR_NO_RANDOMIZE = 0x0040000


def run(job: Job, version: str) -> int:
    """Run a job on the kernel of that version; returns the exit code for the caller's own exit."""
    kernel, init = require(version), require_init()
    with scratch("run") as directory, interruptible():
        return Guest(job, kernel, init, directory).run()


class Guest:
    """A running guest and the streams between it and the caller."""

    def __init__(self, job: Job, kernel: Kernel, init: Path, directory: Path) -> None:
        self.job = job
        self.kernel = kernel
        self.init = init
        self.directory = directory
        self.log = bytearray()
        self.selector = selectors.PollSelector()  # epoll refuses regular files as stdin
        self.to_guest = bytearray()
        self.frames = Decoder()
        self.exit_code: int | None = None
        self.started = self.last_output = time.monotonic()

    def run(self) -> int:
        """Boot, relay until the command has ended, and make sure that nothing of the guest remains."""
        with ExitStack() as stack:
            process = self.start(stack)
            stack.callback(kill_session, process)
            stack.callback(self.selector.close)
            if self.job.interactive:
                stack.enter_context(raw_terminal())
            try:
                return self.relay(process)
            except Interrupted as interrupted:
                return 128 + interrupted.number
            except BrokenPipeError:  # nobody reads our output any more: end as any other writer would
                return 128 + signal.SIGPIPE

    def start(self, stack: ExitStack) -> subprocess.Popen[bytes]:
        """Start the kernel with its console on one pipe and the tty to init on two others."""
        job_file = self.directory / "job"
        job_file.write_bytes(encode_job(self.job, self.directory))
        log_read, log_write = os.pipe()
        from_guest, guest_out = os.pipe()
        guest_in, self.input = os.pipe()
        for fd in (log_read, from_guest, self.input):
            stack.callback(os.close, fd)
            os.set_blocking(fd, False)
        environment = {"TMPDIR": str(memory_directory(self.job.memory)), "HOME": str(self.directory)}
        try:
            process = subprocess.Popen(
                self.command_line(job_file, guest_in, guest_out),
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                pass_fds=(guest_in, guest_out),
                env=environment,
                start_new_session=True,
                preexec_fn=prepare_kernel_process,
            )
        finally:
            for fd in (log_write, guest_in, guest_out):
                os.close(fd)
        self.selector.register(log_read, selectors.EVENT_READ, self.on_log)
        self.selector.register(from_guest, selectors.EVENT_READ, self.on_frames)
        return process

    def command_line(self, job_file: Path, guest_in: int, guest_out: int) -> list[str]:
        """The kernel's own command line."""
        return [
            str(self.kernel.image),
            f"mem={self.job.memory}",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"init={self.init}",
            f"LAB_JOB={job_file}",
            "con=null",
            "con0=fd:0,fd:1",
            f"con1=fd:{guest_in},fd:{guest_out}",
            f"uml_dir={self.directory}/",
            "umid=guest",
            "panic=-1",
            "dummy.numdummies=0",
            "random.trust_cpu=on",
        ]

    def relay(self, process: subprocess.Popen[bytes]) -> int:
        """Move bytes until the guest reports the command's end, dies or is out of time."""
        deadline = self.started + self.job.timeout
        while self.exit_code is None:
            events = self.selector.select(max(0.0, deadline - time.monotonic()))
            for key, _ in events:
                on_ready: Callable[[int], None] = key.data
                on_ready(key.fd)
            if self.exit_code is None and time.monotonic() >= deadline:
                return self.report_timeout()
            if self.exit_code is None and not self.selector.get_map():
                return self.report_death(process)
        return self.exit_code

    def on_log(self, fd: int) -> None:
        """The kernel's console: kept for the day it is needed, shown at once if wished."""
        if not (data := self.read(fd)):
            return
        self.log += data
        del self.log[:-LOG_KEPT_BYTES]
        if self.job.verbose:
            write_stream(sys.stderr.buffer, data)

    def on_frames(self, fd: int) -> None:
        """Frames from init."""
        if not (data := self.read(fd)):
            return
        for kind, payload in self.frames.feed(data):
            match kind:
                case FromGuest.STDOUT:
                    self.last_output = time.monotonic()
                    write_stream(sys.stdout.buffer, payload)
                case FromGuest.STDERR:
                    self.last_output = time.monotonic()
                    write_stream(sys.stderr.buffer, payload)
                case FromGuest.READY:
                    self.open_stdin()
                case FromGuest.STATUS:
                    self.exit_code = exit_code(struct.unpack("<i", payload)[0])
                case FromGuest.FAILED:
                    raise LabError(f"the guest could not be set up: {payload.decode(errors='replace')}{self.log_tail()}")

    def read(self, fd: int) -> bytes:
        """Read what is there; a stream at its end is not polled again."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return b""
        if not data:
            self.selector.unregister(fd)
        return data

    def open_stdin(self) -> None:
        """Forward our stdin, unless it is a terminal that other programs share with us."""
        if self.job.interactive:
            self.queue(encode(ToGuest.WINDOW, struct.pack("<HH", *window_size())))
            signal.signal(signal.SIGWINCH, self.on_window_change)
        elif sys.stdin is None or sys.stdin.isatty():
            self.queue(encode(ToGuest.STDIN))
            return
        self.selector.register(0, selectors.EVENT_READ, self.on_stdin)

    def on_window_change(self, _number: int, _frame: object) -> None:
        """The terminal changed its size."""
        self.queue(encode(ToGuest.WINDOW, struct.pack("<HH", *window_size())))

    def on_stdin(self, fd: int) -> None:
        """Take one piece of stdin, and no more before the guest has taken it."""
        data = os.read(fd, MAX_TO_GUEST)
        self.selector.unregister(fd)
        self.queue(encode(ToGuest.STDIN, data))
        self.stdin_open = bool(data)

    stdin_open = False

    def queue(self, frame: bytes) -> None:
        """Send a frame as the guest takes it."""
        self.to_guest += frame
        if self.input not in self.selector.get_map():
            self.selector.register(self.input, selectors.EVENT_WRITE, self.on_writable)

    def on_writable(self, fd: int) -> None:
        """The guest takes more input."""
        with suppress(BlockingIOError):
            try:
                del self.to_guest[: os.write(fd, self.to_guest)]
            except BrokenPipeError:  # the kernel died; the log's end will tell
                self.to_guest.clear()
                self.stdin_open = False
        if not self.to_guest:
            self.selector.unregister(fd)
            if self.stdin_open:
                self.stdin_open = False
                self.selector.register(0, selectors.EVENT_READ, self.on_stdin)

    def report_timeout(self) -> int:
        """Say what is known of a hang."""
        silent = time.monotonic() - self.last_output
        complain(
            f"no end after {self.job.timeout:g} s (--timeout), last output {silent:.0f} s ago:"
            f" {self.job.command_line}{self.log_tail()}"
        )
        return Exit.TIMEOUT

    def report_death(self, process: subprocess.Popen[bytes]) -> int:
        """The kernel ended before the command did."""
        status = process.wait()
        panic = b"Kernel panic" in self.log
        what = "the guest's kernel panicked" if panic else f"the guest's kernel ended unexpectedly (status {status})"
        complain(f"{what} while running: {self.job.command_line}{self.log_tail()}")
        return Exit.PANIC

    def log_tail(self) -> str:
        """The end of the kernel's log, indented."""
        text = self.log.decode(errors="replace").replace("\r", "")
        lines = [line for line in text.splitlines() if line.strip()][-LOG_TAIL_LINES:]
        return "\nthe kernel's log ends with:\n" + "\n".join(f"    {line}" for line in lines) if lines else ""


def encode_job(job: Job, directory: Path) -> bytes:
    """The job as init reads it: records of one letter and a string, each ended by a NUL byte."""
    records = [f"C{job.cwd}", "Hlab"]
    if not needs_host_tmp(job, directory):
        records.append("T")
    if job.interactive:
        records.append("P")
    records += [f"W{path}" for path in job.writable]
    records += [f"E{name}={value}" for name, value in job.env.items()]
    records += [f"A{argument}" for argument in job.argv]
    return b"".join(os.fsencode(record) + b"\0" for record in records)


def needs_host_tmp(job: Job, directory: Path) -> bool:
    """A fresh /tmp would hide what the command lives on if that is under the host's /tmp."""
    used = [str(job.cwd), job.argv[0], *job.env.values()]
    return any(part == "/tmp" or part.startswith("/tmp/") for value in used for part in value.split(os.pathsep))


def exit_code(wait_status: int) -> int:
    """A wait status as a shell shows it."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def memory_directory(memory: str) -> Path:
    """Where the guest's memory file goes: fast, big enough, and not mounted noexec, which User Mode Linux refuses."""
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


_libc = ctypes.CDLL(None, use_errno=True)


def prepare_kernel_process() -> None:
    """In the child before exec: die with the lab, and take as many files as allowed (hostfs holds each one open).

    The kernel adds the gap between its image and its heap to the guest's memory map: up to 1 GiB at random with
    address randomization, which costs boot time for nothing.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _libc.personality(_ADDR_NO_RANDOMIZE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the kernel and the host processes that stand for the guest's."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def write_stream(stream: IO[bytes], data: bytes) -> None:
    """Write everything now, also when the other end is a slow non-blocking pipe."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(stream.fileno(), view) :]
        except BlockingIOError:
            with selectors.PollSelector() as selector:
                selector.register(stream.fileno(), selectors.EVENT_WRITE)
                selector.select()
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise BrokenPipeError from error
            raise
