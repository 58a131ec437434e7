"""A guest as the caller sees it: streams in and out, an exit code, and an end to everything it started."""

from __future__ import annotations

import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from .errors import Exit, LabError
from .job import Job
from .process import Interrupted, adopt_orphans, complain, interruptible, kill_session
from .terminal import raw_terminal, window_size
from .wire import MAX_STDIN, Decoder, FromGuest, ToGuest, encode

LOG_TAIL_LINES = 25
LOG_KEPT_BYTES = 64 * 1024


class Guest(ABC):
    """Relays between the caller and init; how the kernel is started is the subclass's part."""

    def __init__(self, job: Job, directory: Path) -> None:
        self.job = job
        self.directory = directory
        self.selector = selectors.PollSelector()  # epoll refuses regular files as stdin
        self.log = bytearray()
        self.frames = Decoder()
        self.input = -1
        self.to_guest = bytearray()
        self.exit_code: int | None = None
        self.log_ended = False
        self.last_output = time.monotonic()

    @abstractmethod
    def start(self, stack: ExitStack) -> subprocess.Popen[bytes]:
        """Start the kernel as leader of its own session; call watch_log() and, once it talks, connect()."""

    def run(self) -> int:
        """Boot, relay until the command has ended, and make sure that nothing of the guest remains."""
        with interruptible(), ExitStack() as stack:
            stack.callback(self.selector.close)
            adopt_orphans()
            try:
                process = self.start(stack)
                stack.callback(kill_session, process)
                if self.job.interactive:
                    stack.enter_context(raw_terminal())
                return self.relay(process)
            except Interrupted as interrupted:
                return 128 + interrupted.number
            except BrokenPipeError:  # nobody reads our output any more: end as any other writer would
                return 128 + signal.SIGPIPE

    def watch_log(self, fd: int) -> None:
        """Collect the kernel's messages from a pipe."""
        os.set_blocking(fd, False)
        self.selector.register(fd, selectors.EVENT_READ, self.on_log)

    def connect(self, output: int, input_: int) -> None:
        """Talk to init: its frames come from `output`, ours go to `input_`."""
        self.input = input_
        for fd in (output, input_):
            os.set_blocking(fd, False)
        self.selector.register(output, selectors.EVENT_READ, self.on_frames)

    def relay(self, process: subprocess.Popen[bytes]) -> int:
        """Move bytes until the guest reports the command's end, dies or is out of time."""
        deadline = time.monotonic() + self.job.timeout
        while True:
            for key, _ in self.selector.select(max(0.0, deadline - time.monotonic())):
                on_ready: Callable[[int], None] = key.data
                on_ready(key.fd)
            if self.exit_code is not None:
                if note := self.closing_note():
                    complain(note)
                return self.exit_code
            if time.monotonic() >= deadline:
                return self.report_timeout()
            if self.log_ended:
                return self.report_death(process)

    def closing_note(self) -> str:
        """What the caller should know of the command's end, besides its exit code."""
        return ""

    def on_log(self, fd: int) -> None:
        """The kernel's console: kept for the day it is needed, shown at once if wished."""
        data = self.read(fd)
        if data is None:
            self.log_ended = True
            return
        self.log += data
        del self.log[:-LOG_KEPT_BYTES]
        if self.job.verbose:
            write_stream(sys.stderr.buffer, data)

    def on_frames(self, fd: int) -> None:
        """Frames from init."""
        for kind, payload in self.frames.feed(self.read(fd) or b""):
            match kind:
                case FromGuest.STDOUT:
                    self.last_output = time.monotonic()
                    write_stream(sys.stdout.buffer, payload)
                case FromGuest.STDERR:
                    self.last_output = time.monotonic()
                    write_stream(sys.stderr.buffer, payload)
                case FromGuest.READY:
                    self.open_stdin()
                case FromGuest.TAKEN:
                    self.selector.register(0, selectors.EVENT_READ, self.on_stdin)
                case FromGuest.STATUS:
                    self.exit_code = exit_code(struct.unpack("<i", payload)[0])
                case FromGuest.FAILED:
                    reason = payload.decode(errors="replace")
                    raise LabError(f"the guest could not be set up: {reason}{self.log_tail()}")

    def read(self, fd: int) -> bytes | None:
        """Read what is there; None at the stream's end, which is then no longer polled."""
        try:
            if data := os.read(fd, 1 << 16):
                return data
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            pass
        self.selector.unregister(fd)
        return None

    def open_stdin(self) -> None:
        """Forward our stdin, unless it is a terminal that other programs share with us."""
        if self.job.interactive:
            self.send_window_size()
            signal.signal(signal.SIGWINCH, lambda *_: self.send_window_size())
        elif sys.stdin is None or sys.stdin.isatty():
            self.send(encode(ToGuest.STDIN))
            return
        self.selector.register(0, selectors.EVENT_READ, self.on_stdin)

    def send_window_size(self) -> None:
        """Tell the guest's terminal how big ours is."""
        self.send(encode(ToGuest.WINDOW, struct.pack("<HH", *window_size())))

    def on_stdin(self, fd: int) -> None:
        """Take one piece of stdin; the next when the command has taken this one."""
        self.selector.unregister(fd)
        self.send(encode(ToGuest.STDIN, os.read(fd, MAX_STDIN)))

    def send(self, frame: bytes) -> None:
        """Send a frame as fast as the guest takes it."""
        self.to_guest += frame
        if self.input not in self.selector.get_map():
            self.selector.register(self.input, selectors.EVENT_WRITE, self.on_writable)

    def on_writable(self, fd: int) -> None:
        """The guest takes more input."""
        try:
            del self.to_guest[: os.write(fd, self.to_guest)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):  # the kernel died: the end of its log will tell
            self.to_guest.clear()
        if not self.to_guest:
            self.selector.unregister(fd)

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
        panicked = b"Kernel panic" in self.log
        what = "kernel panicked" if panicked else f"kernel ended unexpectedly (status {status})"
        complain(f"the guest's {what} while running: {self.job.command_line}{self.log_tail()}")
        return Exit.PANIC

    def log_tail(self) -> str:
        """The end of the kernel's log, indented."""
        text = self.log.decode(errors="replace").replace("\r", "")
        lines = [f"    {line}" for line in text.splitlines() if line.strip()]
        return "\n".join(["\nthe kernel's log ends with:", *lines[-LOG_TAIL_LINES:]]) if lines else ""


def encode_job(job: Job, directory: Path) -> Path:
    """Write the job as init reads it: records of one letter and a string, each ended by a NUL byte."""
    records = [f"C{job.cwd}", "Hlab"]
    if not needs_host_tmp(job):
        records.append("T")
    if job.interactive:
        records.append("P")
    records += [f"W{path}" for path in job.writable]
    records += [f"E{name}={value}" for name, value in job.env.items()]
    records += [f"A{argument}" for argument in job.argv]
    path = directory / "job"
    path.write_bytes(b"".join(os.fsencode(record) + b"\0" for record in records))
    return path


def needs_host_tmp(job: Job) -> bool:
    """A fresh /tmp would hide what the command lives on, if that is under the host's /tmp."""
    paths = [str(job.cwd), job.argv[0], *(part for value in job.env.values() for part in value.split(":"))]
    return any(path == "/tmp" or path.startswith("/tmp/") for path in paths)


def exit_code(wait_status: int) -> int:
    """A wait status as a shell shows it."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def write_stream(stream: IO[bytes], data: bytes) -> None:
    """Write everything now, also when the other end is a slow non-blocking pipe."""
    fd, view = stream.fileno(), memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            with selectors.PollSelector() as selector:
                selector.register(fd, selectors.EVENT_WRITE)
                selector.select()
