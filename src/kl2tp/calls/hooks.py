"""Programs that are told when a session comes up or goes down, with a clean environment and a time limit.

They run beside the daemon, never in its way: few at a time, the up of a session before its down.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping

_log = logging.getLogger("kl2tp.hooks")
_AT_ONCE = 16
_MOST_WAITING = 50_000
_OUTPUT = 2000
"""Bytes of a program's output that are kept for the log."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Hooks:
    """Runs them."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}
        """By session: the one that the next one waits for."""

    def run(self, program: str, session: str, environment: Mapping[str, str], timeout_s: float) -> None:
        """Start a program as soon as there is room."""
        if not program:
            return
        if len(self._tasks) >= _MOST_WAITING:
            _log.error("%s: %s is not run: %d are waiting", session, program, len(self._tasks))
            return
        before = self._last.get(session)
        task = asyncio.get_running_loop().create_task(self._run(before, program, session, environment, timeout_s))
        self._tasks.add(task)
        self._last[session] = task
        task.add_done_callback(lambda done: self._ended(session, done))

    def _ended(self, session: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._last.get(session) is task:
            del self._last[session]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s: a hook failed: %s", session, error)

    async def finish(self, patience_s: float) -> None:
        """Wait for those that run, for so long."""
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=patience_s)
            for task in left:
                task.cancel()

    async def _run(
        self,
        before: asyncio.Task[None] | None,
        program: str,
        session: str,
        environment: Mapping[str, str],
        timeout_s: float,
    ) -> None:
        if before is not None:
            await asyncio.wait((before,))
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    program,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    env={"PATH": _PATH, "LANG": "C", **environment},
                    start_new_session=True,
                    cwd="/",
                )
            except OSError as error:
                _log.error("%s: cannot run %s: %s", session, program, error.strerror)
                return
            await _await(process, program, session, timeout_s)


async def _await(process: asyncio.subprocess.Process, program: str, session: str, timeout_s: float) -> None:
    """See a program through; kill it and what it started when its time is over."""
    try:
        async with asyncio.timeout(timeout_s):
            output = await _tail(process)
            status = await process.wait()
    except TimeoutError:
        _log.error("%s: %s took longer than %.0f s: killed", session, program, timeout_s)
        await _kill(process)
        return
    except asyncio.CancelledError:
        await _kill(process)
        raise
    if status:
        said = output.decode(errors="replace").strip()
        _log.warning("%s: %s: exit status %d%s", session, program, status, f": {said}" if said else "")


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _tail(process: asyncio.subprocess.Process) -> bytes:
    """The last of what a program printed: however much that is, little is kept."""
    assert process.stdout is not None
    kept = b""
    while data := await process.stdout.read(4096):
        kept = (kept + data)[-_OUTPUT:]
    return kept
