"""`kl2tp doctor`: what this machine lacks, what will be slow on it, and the command that mends each."""

from collections.abc import Iterator

from kl2tp.doctor import calls, files, ike, kernel, limits, neighbours
from kl2tp.doctor.machine import Machine
from kl2tp.kernel.finding import Finding
from kl2tp.kernel.probe import surroundings


def examine(machine: Machine, config: str, run_dir: str) -> Iterator[Finding]:
    """All findings, in an order that people can read. Changes nothing on this machine."""
    desired, about_configuration = files.configuration(config)
    yield from kernel.version(machine)
    yield from limits.capabilities(desired)
    yield from neighbours.modules(machine)
    yield from kernel.features(desired)
    yield from limits.processor(machine, desired)
    yield from limits.sysctls(machine, desired)
    yield from limits.descriptors(machine, desired)
    yield from kernel.weak_spots(machine, len(desired.tunnels) if desired else 0)
    yield from neighbours.ports(machine, desired, run_dir)
    yield from neighbours.daemons(machine, ike=ike.wants(desired))
    yield from ike.ike(machine, desired)
    yield from neighbours.managers(machine)
    yield from files.run_directory(run_dir)
    yield from about_configuration
    yield from files.keys(desired, run_dir)
    yield from calls.calls(machine, desired, run_dir)
    if desired:
        yield from surroundings(desired)
