"""A door to a kernel that is a dictionary: for tests of the engine, which shall not know the difference."""

import errno
from collections.abc import Callable, Iterable, Sequence

from kl2tp.kernel.door import Door, Outcome
from kl2tp.kernel.l2tp import Codec
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.stencil import Row, Specimen, Stencil
from kl2tp.model.objects import KernelObject, Key
from kl2tp.model.plan import Operation, Unit, creations
from unit.model.kernel_model import SHARED, ModelKernel, Refused


class Crash(BaseException):
    """The process ends here."""


class FakeDoor(Door):
    """Carries out operations one by one, as the real one does in batches."""

    def __init__(self, objects: Iterable[KernelObject] = ()) -> None:
        super().__init__()
        self.kernel = ModelKernel(objects)
        self.asked: list[set[Key]] = []
        """The keys of every read."""
        self.refuse: Callable[[Operation], KernelError | None] = lambda op: None
        self.crash_after: int | None = None
        self.executed: list[Operation] = []
        self.finished: list[Key] = []
        self.stamped: list[str] = []
        """Units that were made by a stencil."""

    def read(self, keys: Iterable[Key]) -> dict[Key, KernelObject]:
        self.asked.append(set(keys))
        return {key: self.kernel.objects[key] for key in self.asked[-1] if key in self.kernel.objects}

    def execute(self, operations: Sequence[Operation]) -> Outcome:
        outcome = Outcome()
        for op in operations:
            if op.unit in outcome.failed:
                outcome.skipped.append(op)
            elif error := self._one(op, outcome):
                outcome.failed[op.unit] = (op, error)
            else:
                outcome.done.append(op)
        return outcome

    def cut(self, specimen: Specimen) -> Stencil:
        return Stencil(specimen, Codec(30), len)

    def stamp(self, stencil: Stencil, rows: Iterable[Row], unit: Callable[[str], Unit]) -> Outcome:
        rows = list(rows)
        self.stamped += [row.name for row in rows]
        operations = [op for row in rows for op in creations(unit(row.name))]
        outcome = self.execute(sorted(operations, key=lambda op: op.stage))
        outcome.done = [op for op in outcome.done if op.unit in outcome.failed]
        return outcome

    def _one(self, op: Operation, outcome: Outcome) -> KernelError | None:
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                raise Crash
        self.executed.append(op)
        if error := self.refuse(op):
            return error
        if isinstance(op.target, SHARED) and any(d.target == op.target and d.verb is op.verb for d in outcome.done):
            return None
        try:
            self.kernel.carry_out([op])
        except Refused as refused:
            return KernelError(errno.EEXIST if str(refused).startswith("EEXIST") else errno.ENODEV)
        return None

    def finish_dismantling(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.finished.append(key)
            self.kernel.delete(key)

    def counters(self, objects: Iterable[KernelObject]) -> dict[Key, dict[str, int]]:
        return {thing.key: {"packets": 1} for thing in objects if thing.kind in ("sa", "session")}

    def vrf_table(self, netns_name: str, name: str) -> int:
        return 77
