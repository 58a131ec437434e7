"""Hosts for every test: fresh namespaces, gone afterwards."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernel.rig.net import Host, Wire
from kernel.rig.run import Unit


@dataclass(slots=True)
class Bench:
    """Two hosts with kl2tp, and the wire between them."""

    near: Unit
    far: Unit
    wire: Wire
    directory: Path

    def more(self, stack: contextlib.ExitStack, name: str, number: int) -> Unit:
        """One more host on the wire."""
        host = Host(name)
        stack.callback(host.delete)
        self.wire.plug(host, number)
        return Unit(host, self.directory)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        wire = Wire("wire")
        stack.callback(wire.host.delete)
        units = []
        for number, name in enumerate(("near", "far"), 1):
            host = Host(name)
            stack.callback(host.delete)
            wire.plug(host, number)
            units.append(Unit(host, tmp_path))
        yield Bench(units[0], units[1], wire, tmp_path)
