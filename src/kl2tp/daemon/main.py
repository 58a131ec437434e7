"""The daemon's life: start, signals, stop. Stopping leaves every tunnel as it is: the kernel carries them."""

import argparse
import asyncio
import gc
import logging
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kl2tp.daemon import journal, notify
from kl2tp.daemon.control import ControlServer
from kl2tp.daemon.direct import LEDGER
from kl2tp.daemon.errors import ServiceError
from kl2tp.daemon.lock import Lock
from kl2tp.daemon.service import Service
from kl2tp.daemon.stalls import StallMeter
from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel import netns
from kl2tp.kernel.door import Door
from kl2tp.reconcile.engine import Engine
from kl2tp.reconcile.ledger import Ledger, LedgerError

_log = logging.getLogger("kl2tp")
SOCKET = "control"
RESTART = 75
"""Exit status of a daemon that wants to be started again (RestartForceExitStatus=)."""
_SWITCH_S = 0.001
"""How long the kernel's thread may keep the event loop waiting, each time that comes back from a system call."""


def run(args: argparse.Namespace) -> int:
    """`kl2tp daemon`. Returns the exit status."""
    log_level = getattr(args, "log_level", None) or ""
    sys.setswitchinterval(_SWITCH_S)
    journal.configure(log_level or "info")
    _raise_fd_limit()
    stalls = StallMeter()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(stalls)) as runner:
        try:
            return runner.run(_daemon(args, stalls, log_level))
        except ServiceError as error:
            for problem in error.problems:
                print(f"{problem['where']}: {problem['message']}", file=sys.stderr)
            print(f"kl2tp: error: {error.message}", file=sys.stderr)
            if error.hint:
                print(f"hint: {error.hint}", file=sys.stderr)
            # 2: a mistake of the configuration, which another start does not mend (RestartPreventExitStatus=).
            return 2 if error.problems else 1
        except LedgerError as error:
            print(f"kl2tp: error: {error}", file=sys.stderr)
            return 1


def _raise_fd_limit() -> None:
    """As many descriptors as we may have: a namespace needs a handful."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _daemon(args: argparse.Namespace, stalls: StallMeter, log_level: str) -> int:
    config, run_dir, state_dir = Path(args.config), Path(args.run_dir), Path(args.state_dir)
    lock = Lock(run_dir)
    executor = ThreadPoolExecutor(1, thread_name_prefix="kernel")
    door = Door()
    try:
        engine = Engine(door, Ledger(run_dir / LEDGER, netns.identity), KeyRing())
        service = Service(
            config, engine, executor, stalls, run_dir=run_dir, state_dir=state_dir, log_level=log_level
        )
        await service.start()
        _settle_memory()
        stalls.reset()
        return await _serve(service, run_dir)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        door.close()
        lock.release()


def _settle_memory() -> None:
    """Have the garbage collector leave alone what stays, and look for cycles seldom: passes make no cycles.

    With its usual threshold it would run hundreds of times in a pass, for a tenth of the pass's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _serve(service: Service, run_dir: Path) -> int:
    """Serve until told to stop; the exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, service.stop_requested.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloads: set[asyncio.Task[None]] = set()

    def hangup() -> None:
        task = loop.create_task(_reload(service))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, hangup)
    server = ControlServer(service, run_dir / SOCKET)
    await server.start()
    worker = loop.create_task(service.loop.run())
    watchdog = loop.create_task(notify.watchdog())
    notify.ready()
    _log.info("ready")
    stopping = loop.create_task(stop.wait())
    restarting = loop.create_task(service.stop_requested.wait())
    await asyncio.wait({worker, stopping, restarting}, return_when=asyncio.FIRST_COMPLETED)
    keep = not stop.is_set() or service.settings.keep_calls
    notify.stopping()
    await server.stop()
    if not worker.done():
        await service.stop(keep=keep)
    for task in (worker, watchdog, stopping, restarting, *reloads):
        task.cancel()
    results = await asyncio.gather(worker, watchdog, *reloads, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
    _log.info("stopped; the tunnels stay%s", ", and so do calls" if keep else "")
    return 0 if stop.is_set() else RESTART


async def _reload(service: Service) -> None:
    """SIGHUP."""
    notify.reloading()
    try:
        await service.reload(lambda event: None)
    except ServiceError as error:
        for problem in error.problems:
            _log.error("%s: %s", problem["where"], problem["message"])
        _log.error("%s: nothing changed", error.message)
    except Exception:
        _log.exception("the reload failed")
    finally:
        notify.ready()
