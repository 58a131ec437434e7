"""Hosts on one wire for every test: fresh namespaces, gone afterwards."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.rig import pppd
from interop.rig.process import kill_all
from kernel.rig.net import Host, Wire


class Network:
    """Hosts on one wire."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wire = Wire("wire")
        self.hosts: list[Host] = []
        self._numbers = iter(range(1, 250))

    def add(self, name: str) -> Host:
        """One more host."""
        host = Host(name)
        self.hosts.append(host)
        self.wire.plug(host, next(self._numbers))
        return host

    def delete(self) -> None:
        """Everything ends."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.wire.host.delete)
            for host in self.hosts:
                stack.callback(host.delete)
                stack.callback(kill_all, host)


@pytest.fixture(scope="session", autouse=True)
def ppp_files() -> None:
    pppd.prepare()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A wire without hosts."""
    found = Network(tmp_path)
    try:
        yield found
    finally:
        found.delete()
