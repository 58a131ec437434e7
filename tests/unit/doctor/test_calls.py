"""What `kl2tp doctor` finds out for calls."""

import errno
import os
import resource
from pathlib import Path

import pytest

from kl2tp.doctor import calls, kernel, neighbours
from kl2tp.kernel import features
from kl2tp.kernel.finding import Level
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.scratch import PPP_NODE
from kl2tp.model.calls import (
    CallInterfaceSpec,
    ControlSpec,
    HooksSpec,
    LacSpec,
    LimitsSpec,
    LnsSpec,
    PoolSpec,
    PppSpec,
    UsersSpec,
)
from kl2tp.model.desired import Desired
from unit.doctor.machines import UDP, Box, address, bad, udp_line

HERE = address("198.51.100.1")
LNS = LnsSpec("office", listen=((HERE, 1701),), ppp=PppSpec(pool="office"))
LAC = LacSpec("hq", ((address("203.0.113.1"), 1701),), password_file="")
POOL = PoolSpec("office", ((address("10.9.0.0"), address("10.9.0.255")),), 32)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "run").mkdir()
    return Box(tmp_path)


def run_dir(box: Box) -> str:
    return str(box.root / "run")


# What calls need of the kernel


def test_calls_need_ppp_and_a_clamp_nftables() -> None:
    assert features.needed(Desired(lns=(LNS,))) == {"l2tp", "udp4", "ppp", "pppol2tp", "nftables"}
    plain = LacSpec("hq", ((address("2001:db8::1"), 1701),), interface=CallInterfaceSpec(mss=None))
    assert features.needed(Desired(lac=(plain,))) == {"l2tp", "udp6", "ppp", "pppol2tp"}


def test_an_lns_that_listens_everywhere_does_not_need_ipv6() -> None:
    assert "udp6" not in features.needed(Desired(lns=(LnsSpec("office"),)))


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (errno.EACCES, "/dev/ppp may not be opened by this user"),
        (errno.EPERM, "this container may not use /dev/ppp"),
        (errno.ENXIO, "this kernel has no PPP: No such device or address"),
    ],
)
def test_the_ways_in_which_ppp_is_missing_are_told_apart(code: int, what: str) -> None:
    finding = features.lacking("ppp", KernelError(code, PPP_NODE))
    assert finding.what.startswith(what)
    assert finding.mend


def test_a_kernel_with_ppp_may_lack_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = KernelError(errno.ENOENT, PPP_NODE)
    monkeypatch.setattr(features, "_PPP_CLASS", str(tmp_path))
    assert features.lacking("ppp", missing).mend.startswith("mknod -m 660 /dev/ppp c 108 0")
    monkeypatch.setattr(features, "_PPP_CLASS", str(tmp_path / "none"))
    assert features.lacking("ppp", missing).what.startswith("this kernel has no PPP")


def test_without_privileges_ppp_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    results: dict[str, KernelError | None] = dict.fromkeys(features.FEATURES)
    results["ppp"] = KernelError(errno.EACCES, PPP_NODE)
    monkeypatch.setattr(kernel, "_tried", lambda: results)
    (finding,) = bad(kernel.features(Desired(lns=(LNS,))))
    assert (finding.level, finding.what, finding.mend) == (Level.WARN, "PPP was not tried", "sudo kl2tp doctor")


def test_a_kernel_without_ppp_is_in_the_way_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    results: dict[str, KernelError | None] = dict.fromkeys(features.FEATURES)
    results["pppol2tp"] = KernelError(errno.EPROTONOSUPPORT, "a socket of PPP over L2TP")
    monkeypatch.setattr(kernel, "_tried", lambda: results)
    (finding,) = bad(kernel.features(Desired(lns=(LNS,))))
    assert (finding.level, finding.why) == (Level.FAIL, "the configuration needs it")
    (finding,) = bad(kernel.features(None))
    assert (finding.level, finding.what) == (Level.WARN, "this kernel lacks: PPP over L2TP")


# The machine


def test_without_calls_nothing_is_said_about_them(box: Box) -> None:
    assert list(calls.calls(box, Desired(), run_dir(box))) == []
    assert list(calls.calls(box, None, run_dir(box))) == []


def test_a_keeper_is_known_by_its_lock(box: Box) -> None:
    (finding,) = calls.keeper(box, run_dir(box))
    assert (finding.level, finding.mend) == (Level.WARN, "systemctl enable --now kl2tp-keeper")
    box.locks(p41=box.root / "run/keeper.lock")
    (finding,) = calls.keeper(box, run_dir(box))
    assert (finding.level, finding.what) == (Level.OK, "the keeper runs (process 41)")


def test_a_lock_that_nobody_holds_is_no_keeper(box: Box) -> None:
    (box.root / "run/keeper.lock").touch()
    box.locks(p41=box.root / "run/other")
    assert bad(calls.keeper(box, run_dir(box)))


@pytest.mark.parametrize(
    ("mode", "owner", "allowed"),
    [(0o600, (0, 0), False), (0o660, (0, 1701), True), (0o660, (0, 0), False), (0o600, (1701, 0), True)],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_daemons_user_must_be_allowed_to_open_dev_ppp(
    box: Box, mode: int, owner: tuple[int, int], allowed: bool
) -> None:
    box.put("/dev/ppp", "")
    (box.root / "dev/ppp").chmod(mode)
    os.chown(box.root / "dev/ppp", *owner)
    os.chown(run_dir(box), 1701, 1701)
    found = list(calls.ppp_node(box, run_dir(box)))
    assert [finding.level for finding in found] == ([] if allowed else [Level.FAIL])


def test_descriptors_are_counted_for_as_many_sessions_as_there_can_be(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    desired = Desired(lns=(LNS,), lac=(LAC,), pools=(POOL,))
    assert calls.sessions(desired) == 257
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1024))
    (finding,) = calls.descriptors(box, desired)
    assert (finding.level, finding.why) == (Level.WARN, "257 sessions, which the profiles allow, take 1,156")
    assert "LimitNOFILE=1048576" in finding.mend
    small = Desired(lns=(LnsSpec("office", limits=LimitsSpec(sessions=10)),))
    assert bad(calls.descriptors(box, small)) == []
    box.sysctls(fs__nr_open=1000)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert [finding.what for finding in bad(calls.descriptors(box, desired))] == ["fs.nr_open is 1,000"]


def test_a_pool_of_prefixes_has_as_many_as_there_are_prefixes() -> None:
    prefixes = PoolSpec("six", ((address("2001:db8::"), address("2001:db8:0:ff::")),), 64)
    six = LnsSpec("office", ppp=PppSpec(pool="six"))
    assert calls.sessions(Desired(lns=(six,), pools=(prefixes,))) == 256


def test_an_lns_that_forwards_nothing_is_warned_of(box: Box) -> None:
    box.sysctls(net__ipv4__ip_forward=0, net__ipv6__conf__all__forwarding=0)
    (finding,) = calls.forwarding(box, Desired(lns=(LNS,), lac=(LAC,)))
    assert finding.mend.startswith("sysctl -w net.ipv4.ip_forward=1")
    assert list(calls.forwarding(box, Desired(lac=(LAC,)))) == []
    both = LnsSpec("office", ppp=PppSpec(ipv6=True))
    assert len(list(calls.forwarding(box, Desired(lns=(both,))))) == 2
    elsewhere = LnsSpec("office", interface=CallInterfaceSpec(netns="blue"))
    assert list(calls.forwarding(box, Desired(lns=(elsewhere,)))) == []


def test_ipv6_needs_a_raw_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Desired(lns=(LnsSpec("office", ppp=PppSpec(ipv6=True)),))
    monkeypatch.setattr(calls, "capable", lambda number: False)
    (finding,) = calls.advertisements(both)
    assert finding.what == "this user has no capability CAP_NET_RAW"
    assert list(calls.advertisements(Desired(lns=(LNS,)))) == []
    monkeypatch.setattr(calls, "capable", lambda number: True)
    assert list(calls.advertisements(both)) == []


def test_ipv6_switched_off_is_in_the_way_of_calls_with_it(box: Box) -> None:
    box.sysctls(net__ipv6__conf__default__disable_ipv6=1)
    both = LnsSpec("office", ppp=PppSpec(ipv6=True))
    (finding,) = calls.ipv6(box, Desired(lns=(both,)))
    assert finding.level == Level.FAIL
    assert finding.why.startswith("calls of office")
    assert list(calls.ipv6(box, Desired(lns=(LNS,)))) == []
    box.sysctls(net__ipv6__conf__default__disable_ipv6=0)
    assert list(calls.ipv6(box, Desired(lns=(both,)))) == []


def test_xl2tpd_on_our_port_is_in_the_way_and_ourselves_are_not(box: Box) -> None:
    box.put("/proc/net/udp", UDP + udp_line("0.0.0.0", 1701, 12) + udp_line("198.51.100.1", 1701, 13))
    box.process(811, "xl2tpd", 12)
    box.process(41, "python3", 13)
    box.locks(p41=box.root / "run/lock")
    (finding,) = bad(neighbours.ports(box, Desired(lns=(LNS,)), run_dir(box)))
    assert (finding.level, finding.what) == (Level.FAIL, "xl2tpd (process 811) holds UDP port 1701")
    assert "kl2tp import xl2tpd" in finding.mend


@pytest.mark.parametrize(
    ("desired", "level"),
    [
        (Desired(lns=(LnsSpec("office"),)), Level.FAIL),
        (Desired(lns=(LnsSpec("office", listen=((address("192.0.2.1"), 1701),)),)), Level.WARN),
        (Desired(lac=(LAC,)), Level.FAIL),
        (Desired(lac=(LacSpec("hq", LAC.remotes, (b"", 0)),)), Level.WARN),
    ],
)
def test_ports_of_calls_are_wanted(box: Box, desired: Desired, level: Level) -> None:
    box.put("/proc/net/udp", UDP + udp_line("198.51.100.1", 1701, 12))
    box.process(811, "openl2tpd", 12)
    assert [finding.level for finding in neighbours.ports(box, desired, run_dir(box))] == [level]


# Files


def secret(path: Path, text: str, mode: int = 0o600) -> str:
    path.touch(mode)
    path.write_text(text)
    return str(path)


def test_users_and_secrets_are_read_but_not_shown(box: Box, tmp_path: Path) -> None:
    users = secret(tmp_path / "users", 'anna * "open sesame" *\n')
    shared = secret(tmp_path / "l2tp-secrets", "* * swordfish\n", 0o644)
    lac = LacSpec("hq", LAC.remotes, control=ControlSpec(secret_file=shared), password_file=str(tmp_path / "none"))
    found = list(calls.secrets(Desired(lac=(lac,), users=UsersSpec((users,))), run_dir(box)))
    assert [finding.level for finding in found] == [Level.FAIL, Level.FAIL, Level.OK]
    assert found[0].what.startswith(shared)
    assert found[0].mend.startswith("chmod 600")
    assert found[1].what.startswith(str(tmp_path / "none"))
    assert found[2].what == "1 users"
    assert "sesame" not in repr(found)
    assert "swordfish" not in repr(found)


def test_a_broken_line_of_a_users_file_is_named(box: Box, tmp_path: Path) -> None:
    users = secret(tmp_path / "users", "anna\n")
    (finding,) = calls.secrets(Desired(lns=(LNS,), users=UsersSpec((users,))), run_dir(box))
    assert finding.level == Level.FAIL
    assert finding.what.startswith(f"{users}:1:")


def test_credentials_are_the_units_own(box: Box) -> None:
    lac = LacSpec("hq", LAC.remotes, password_file="credential:hq", control=ControlSpec(secret_file="credential:l2tp"))
    assert list(calls.secrets(Desired(lac=(lac,)), run_dir(box))) == []


def test_hooks_must_be_programs(box: Box, tmp_path: Path) -> None:
    text, program = tmp_path / "up", tmp_path / "down"
    for path in (text, program):
        path.write_text("#!/bin/sh\n")
    text.chmod(0o644)
    program.chmod(0o755)
    lns = LnsSpec("office", hooks=HooksSpec(up=str(text), down=str(program)))
    other = LnsSpec("branches", hooks=HooksSpec(up=str(tmp_path / "none")))
    found = {finding.what: finding.mend for finding in calls.hooks(Desired(lns=(lns, other)), run_dir(box))}
    assert found == {f"{tmp_path}/none is not there": "", f"{text} cannot be run": f"chmod 755 {text}"}
