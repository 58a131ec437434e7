"""The service without a daemon: what `kl2tp apply` and its like do when none runs. Blocking."""

import difflib
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kl2tp.config import ConfigError, load
from kl2tp.daemon.errors import ServiceError, configuration_error, lacking_error
from kl2tp.daemon.explain import alone
from kl2tp.daemon.ike import forget
from kl2tp.daemon.kept import end_kept
from kl2tp.daemon.lock import Lock
from kl2tp.daemon.report import Json, Tally, planned, shown, tunnel, unserved
from kl2tp.ipsec.keys import KeyFileError, KeyRing
from kl2tp.kernel import netns
from kl2tp.kernel.door import Door
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.probe import missing
from kl2tp.model.desired import Desired
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile.engine import CHUNK, Engine
from kl2tp.reconcile.ledger import Ledger, LedgerError

Progress = Callable[[Json], None]
LEDGER = "ledger"


def read_config(path: Path) -> Desired:
    """The configuration. Raises ServiceError with every problem."""
    try:
        return load(path)
    except ConfigError as error:
        raise configuration_error(path, error.problems) from None


@contextmanager
def _explained() -> Iterator[None]:
    """Errors that concern the whole, in words."""
    try:
        yield
    except LedgerError as error:
        raise ServiceError(
            str(error), "repair or remove the file; kl2tp apply --adopt takes over what was made"
        ) from None
    except KernelError as error:
        hint = "run kl2tp as root" if error.code == 1 else "see: kl2tp doctor"
        raise ServiceError(f"the kernel refuses: {error}", hint) from None
    except OSError as error:
        raise ServiceError(f"the kernel refuses: {error.strerror}", "see: kl2tp doctor") from None


@contextmanager
def _no_collector() -> Iterator[None]:
    """Without the garbage collector: a pass makes millions of objects, all of them needed, and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Direct:
    """The service's methods, each opening what it needs and closing it again."""

    def __init__(self, config_path: Path, run_dir: Path) -> None:
        self._config_path = config_path
        self._run_dir = run_dir

    @contextmanager
    def _engine(self, desired: Desired | None) -> Iterator[Engine]:
        with _explained(), _no_collector():
            lock = Lock(self._run_dir)
            door = Door()
            ledger = None
            try:
                ledger = Ledger(self._run_dir / LEDGER, netns.identity)
                engine = Engine(door, ledger, KeyRing())
                engine.set_specs({t.name: t for t in desired.tunnels} if desired else {})
                engine.secured |= _secured(door, desired)
                yield engine
            finally:
                if ledger:
                    ledger.close()
                door.close()
                lock.release()

    def plan(self, adopt: bool = False, progress: Progress | None = None) -> Json:
        """What apply would do. Changes nothing."""
        with self._engine(read_config(self._config_path)) as engine:
            return planned(engine.plan(engine.names(), adopt=adopt))

    def apply(
        self, adopt: bool = False, wait: bool = True, detail: bool = True, progress: Progress | None = None
    ) -> Json:
        """Make the kernel agree with the configuration; with `wait`, see key changes through to their end."""
        began = time.monotonic()
        desired = read_config(self._config_path)
        with _explained():
            if lack := lacking_error(missing(desired)):
                raise lack
        with self._engine(desired) as engine:
            engine.mend_tables()
            namespaces = engine.namespaces | engine.owned_namespaces()
            tally = Tally(detail=detail)
            _run(engine, engine.names(), adopt, progress, tally)
            while wait and engine.deadlines:
                _wait_for_keys(engine, progress)
                due = [n for n, at in engine.deadlines.items() if at <= _boot_time()]
                _run(engine, due, adopt, None, tally)
            engine.drop_tables(namespaces)
            now = _boot_time()
            waiting = {name: at - now for name, at in engine.deadlines.items()}
            answer = tally.answer(seconds=time.monotonic() - began, sent=engine.door.sent(), waiting=waiting)
            return answer | unserved(desired)

    def down(self, detail: bool = True, progress: Progress | None = None) -> Json:
        """Take away all that kl2tp made."""
        began = time.monotonic()
        with self._engine(None) as engine:
            end_kept(self._run_dir)
            forget(self._run_dir)
            engine.calls = {}
            if engine.ledger.in_doubt():
                engine.recall(self._tunnels())
            namespaces = engine.owned_namespaces()
            tally = Tally(detail=detail)
            _run(engine, engine.names(), False, progress, tally)
            engine.drop_tables(namespaces)
            return tally.answer(seconds=time.monotonic() - began, sent=engine.door.sent(), waiting={})

    def _tunnels(self) -> tuple[TunnelSpec, ...]:
        """The tunnels of the configuration, if it can be read."""
        try:
            return load(self._config_path).tunnels
        except ConfigError:
            return ()

    def status(self, progress: Progress | None = None) -> Json:
        """The state of every tunnel, compared with the kernel now."""
        desired = read_config(self._config_path)
        with self._engine(desired) as engine:
            plan = planned(engine.plan(engine.names()))
        different = {op["unit"] for op in plan["operations"]}
        problems = plan["problems"] | {c["unit"]: c["text"] for c in plan["conflicts"]}
        tunnels = []
        for spec in desired.tunnels:
            state = "failed" if spec.name in problems else "pending" if spec.name in different else "up"
            note = problems.get(
                spec.name, "differs from the configuration; run: kl2tp apply" if state == "pending" else ""
            )
            tunnels.append(tunnel(spec, state=state, problem=note))
        counts = {state: sum(t["state"] == state for t in tunnels) for state in ("up", "failed", "pending")}
        counts = {"tunnels": len(tunnels), **counts}
        return {"daemon": None, "counts": counts, "drift": None, "tunnels": tunnels, **unserved(desired)}

    def show(self, name: str, progress: Progress | None = None) -> Json:
        """Everything about one tunnel."""
        desired = read_config(self._config_path)
        spec = next((t for t in desired.tunnels if t.name == name), None)
        if spec is None:
            raise no_such_tunnel(name, [t.name for t in desired.tunnels])
        with self._engine(desired) as engine:
            return inspect(engine, spec)

    def explain(self, name: str, probe: bool = False, progress: Progress | None = None) -> Json:
        """Follow one tunnel through the layers that the kernel shows."""
        desired = read_config(self._config_path)
        spec = next((t for t in desired.tunnels if t.name == name), None)
        if spec is None:
            if name in {profile.name for profile in desired.calls}:
                raise ServiceError(f"{name} is for calls, which only a daemon serves", "systemctl start kl2tp")
            raise no_such_tunnel(name, [t.name for t in desired.tunnels])
        with self._engine(desired) as engine:
            return alone.explained(engine, spec, probe=probe)


def _secured(door: Door, desired: Desired | None) -> set[str]:
    """The tunnels with IKE for which there are SAs: what strongSwan has made stays of use."""
    reqids = {t.ike.reqid: t.name for t in desired.tunnels if t.ike is not None} if desired else {}
    if not reqids:
        return set()
    found = {(reqid, source, destination) for reqid, source, destination, _ in door.identities()}
    return {reqids[r] for r, source, destination in found if r in reqids and (r, destination, source) in found}


def no_such_tunnel(name: str, names: list[str]) -> ServiceError:
    """The error for a name that is none, with the nearest that is."""
    near = difflib.get_close_matches(name, names, 1)
    return ServiceError(
        f"there is no tunnel {name!r}", f"did you mean {near[0]}?" if near else "list them with: kl2tp status"
    )


def inspect(engine: Engine, spec: TunnelSpec, **state: object) -> Json:
    """`show` for one tunnel, with its state judged by what is there unless given."""
    try:
        found = engine.inspect(spec.name)
    except (KeyFileError, ValueError) as error:
        raise ServiceError(f"{spec.name}: {error}") from None
    result = shown(spec, found, **state)
    if "state" not in result:
        fine = all(o["present"] and not o["differences"] for o in result["objects"])
        result["state"] = "up" if fine else "pending"
        result["problem"] = "" if fine else "differs from the configuration; run: kl2tp apply"
    return result


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _run(engine: Engine, names: list[str], adopt: bool, progress: Progress | None, tally: Tally) -> None:
    for number, part in enumerate(engine.reconcile(names, adopt=adopt), 1):
        tally.add(part)
        if progress:
            progress({"done": min(number * CHUNK, len(names)), "total": len(names), "text": "tunnels"})


def _wait_for_keys(engine: Engine, progress: Progress | None) -> None:
    """Sleep until the next step of a key change."""
    wait = max(0.01, min(engine.deadlines.values()) - _boot_time())
    if progress:
        count = len(engine.deadlines)
        progress({"done": 0, "total": count, "text": f"changing keys, both are accepted for {wait:.0f} s more"})
    time.sleep(wait)
