"""Creation by stencil: stage by stage, all units of one stencil at once. Blocks, as all beneath the door does."""

from collections.abc import Mapping, Sequence

from kl2tp.kernel.host import Host
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.stencil import Elements, Requests, Row, Stencil

Refused = Mapping[str, Sequence[int]]
"""By unit, the operations (by their position in the order of creation) that were not carried out."""


def press(host: Host, stencil: Stencil, stage: Requests | Elements, rows: Sequence[Row]) -> Refused:
    """Create what belongs to a stage. Raises KernelError when it is unknown what became of it."""
    if isinstance(stage, Elements):
        return _insert(host, stage, rows)
    refused: dict[str, list[int]] = {}
    if stage.on_devices:
        there = _number_devices(host, stencil, rows)
        refused = {row.name: list(stage.positions) for row in rows if row.name not in there}
        rows = [row for row in rows if row.name in there]
    blocks = (stage.block.fill(row.forms) for row in rows)
    each = len(stage.offsets)
    for number in host.socket(stage.protocol).blocks(blocks, stage.offsets):
        refused.setdefault(rows[number // each].name, []).append(stage.positions[number % each])
    return refused


def _number_devices(host: Host, stencil: Stencil, rows: Sequence[Row]) -> set[str]:
    """Fill in the numbers of devices; the units whose devices are all there."""
    numbers = host.device_indexes(device for row in rows for device in row.devices)
    there = set()
    for row in rows:
        if all(device in numbers for device in row.devices):
            stencil.number_devices(row, numbers)
            there.add(row.name)
    return there


def _insert(host: Host, stage: Elements, rows: Sequence[Row]) -> Refused:
    """Into sets: all or nothing."""
    by_set: dict[str, list[bytes]] = {}
    for name, cut in stage.entries:
        by_set.setdefault(name, []).extend(cut.fill(row.forms) for row in rows)
    table = host.table
    try:
        if not table.exists():
            table.create()
        table.insert(by_set)
    except KernelError:
        return {row.name: stage.positions for row in rows}
    return {}
