"""The measurements: each a function for a process and a namespace of its own, with plain values as result."""

import time
from functools import partial
from typing import Any

from kl2tp.config import load
from kl2tp.daemon.direct import Direct
from kl2tp.kernel.door import Door
from kl2tp.kernel.netlink import Reply
from scale import drift, floor, iproute
from scale.fleet import Fleet
from scale.isolated import Cost, isolated, stopwatch
from scale.process import Daemon

DRIFTS = 100
_POLL_S = 0.01

Values = dict[str, Any]


def _costs(**costs: Cost) -> Values:
    """`NAME_s` and `NAME_cpu_s` of each."""
    result: Values = {}
    for name, cost in costs.items():
        result[f"{name}_s"], result[f"{name}_cpu_s"] = cost.wall_s, cost.cpu_s
    return result


def direct_service(fleet: Fleet) -> Direct:
    """The service without a daemon."""
    return Direct(fleet.config, fleet.directory / "run")


def _checked(answer: Values, fleet: Fleet) -> Values:
    if answer["problems"]:
        raise SystemExit(f"kl2tp has problems: {dict(list(answer['problems'].items())[:3])}")
    return answer


def reading(fleet: Fleet) -> Values:
    """Reading and validating the configuration: as a set, and with every tunnel written out."""
    with stopwatch() as as_set:
        load(fleet.config)
    fleet.write_config(set_=False)
    with stopwatch() as written_out:
        tunnels = load(fleet.config).tunnels
    size = fleet.config.stat().st_size
    fleet.write_config()
    if len(tunnels) != fleet.size:
        raise SystemExit(f"{len(tunnels)} tunnels instead of {fleet.size}")
    return {**_costs(load_set=as_set, load=written_out), "config_bytes": size}


def direct(fleet: Fleet) -> Values:
    """Apply, apply again and take down, without a daemon."""
    _warm_up(fleet)
    service = direct_service(fleet)
    with stopwatch() as apply:
        sent = _checked(service.apply(detail=False), fleet)["sent"]
    with stopwatch() as again:
        second = _checked(service.apply(detail=False), fleet)
    with stopwatch() as down:
        _checked(service.down(detail=False), fleet)
    return {
        **_costs(apply=apply, second_apply=again, down=down),
        "apply_sent": sent,
        "second_apply_changes": second["sent"] + second["changed"],
    }


def _warm_up(fleet: Fleet) -> None:
    """Touch the interpreter's pages, which a fork leaves to be copied: in User Mode Linux each costs 80 us."""
    few = Fleet(3, fleet.encap, fleet.directory / "few")
    few.write()
    service = direct_service(few)
    service.apply()
    service.down()


class Floor:
    """Messages recorded once, sent as often as wished."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._up, self._down, self.counts = isolated(partial(_record, fleet))

    def run(self) -> Values:
        """Send everything up, and down again."""
        up, down = self._up, self._down
        sockets, ids = floor.sockets(up), tunnel_ids(self._fleet)
        with stopwatch() as apply:
            floor.send(up, sockets)
        with stopwatch() as teardown:
            floor.send(down, sockets)
            wait_gone(ids)
        return _costs(floor_apply=apply, floor_down=teardown)


def _record(fleet: Fleet) -> tuple[list[floor.Packed], list[floor.Packed], Values]:
    service = direct_service(fleet)
    with floor.Recording() as up:
        _checked(service.apply(detail=False), fleet)
    with floor.Recording() as down:
        _checked(service.down(detail=False), fleet)
    return floor.pack(up), floor.pack(down), floor.totals(up)


def by_ip(fleet: Fleet) -> Values:
    """`ip -batch` and `nft -f`."""
    ids = tunnel_ids(fleet)
    with stopwatch() as apply:
        iproute.run(fleet.directory, "up")
    with stopwatch() as down:
        iproute.run(fleet.directory, "down")
        wait_gone(ids)
    return _costs(ip_apply=apply, ip_down=down)


def tunnel_ids(fleet: Fleet) -> list[int]:
    """The ids of all tunnels."""
    return [spec.id for spec in fleet.specs()]


def wait_gone(ids: list[int]) -> None:
    """Until the kernel has taken the last tunnel away, which it does in the background."""
    door = Door()
    host = door.host("")
    while any(isinstance(r, Reply) for r in host.genl.get([host.l2tp.tunnel_get(number) for number in ids])):
        time.sleep(_POLL_S)
    door.close()


def daemon(fleet: Fleet) -> Values:
    """A daemon's life: start, drift, reload, status, down."""
    fleet.write_config()
    units = fleet.units()
    result: Values = {}
    with Daemon(fleet) as process:
        began = time.monotonic()
        process.wait_up()
        result |= {"start_s": time.monotonic() - began, "start_cpu_s": process.cpu_s}
        result["stall_start_ms"] = _stall(process)
        result |= _again(process, fleet)
        result |= {"rss_mb": process.memory_mb("VmRSS")}
        result |= _drifts(process, units)
        result |= _reload(process, fleet)
        result |= _status(process)
        result |= {"rss_after_mb": process.memory_mb("VmRSS"), "rss_peak_mb": process.memory_mb("VmHWM")}
        result["loop_stall_max_ms"] = _stall(process)
        began, cpu = time.monotonic(), process.cpu_s
        _checked(process.call("down", detail=False), fleet)
        result |= {"daemon_down_s": time.monotonic() - began, "daemon_down_cpu_s": process.cpu_s - cpu}
        result["stall_down_ms"] = _stall(process)
    fleet.write_config()
    return result


def _stall(process: Daemon) -> float:
    return float(process.call("status")["daemon"]["longest_stall_ms"])


def _again(process: Daemon, fleet: Fleet) -> Values:
    began, cpu = time.monotonic(), process.cpu_s
    answer = _checked(process.call("apply", detail=False), fleet)
    return {
        "daemon_second_apply_s": time.monotonic() - began,
        "daemon_second_apply_cpu_s": process.cpu_s - cpu,
        "daemon_second_apply_changes": answer["sent"] + answer["changed"],
    }


def _drifts(process: Daemon, units: Any) -> Values:
    cpu = process.cpu_s
    outcome = drift.inject(units, DRIFTS)
    seen = process.call("status")["drift"]
    return {
        "drift_injected": outcome.injected,
        "drift_repaired": outcome.repaired,
        "drift_repair_max_s": outcome.slowest_s,
        "drift_slowest": outcome.slowest,
        "drift_seen_by_daemon": seen["seen"],
        "drift_slowest_by_daemon_s": seen["slowest_s"],
        "drift_cpu_s": process.cpu_s - cpu,
    }


def _reload(process: Daemon, fleet: Fleet) -> Values:
    """A new file in which one tunnel in a hundred has another MTU."""
    fleet.write_config(changed=True)
    changed = [f"t{n:05}" for n in fleet.changing]
    units = fleet.units()
    door = Door()
    began, cpu = time.monotonic(), process.cpu_s
    counts = process.call("reload")
    answered = time.monotonic() - began
    while not all(drift.intact(door, units[name]) for name in changed):
        time.sleep(_POLL_S)
    took = time.monotonic() - began
    door.close()
    if counts["changed"] != len(changed):
        raise SystemExit(f"the reload changed {counts}, not {len(changed)} tunnels")
    return {"reload_s": took, "reload_answer_s": answered, "reload_cpu_s": process.cpu_s - cpu}


def _status(process: Daemon) -> Values:
    began = time.monotonic()
    answer = process.call("status")
    if answer["counts"]["up"] != answer["counts"]["tunnels"]:
        raise SystemExit(f"not all is up: {answer['counts']}")
    return {"status_s": time.monotonic() - began}
