"""The doctor and the probe on a kernel that has everything, and on one that is made to lack things."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kernel.rig.keeper import Keeper
from kl2tp import doctor
from kl2tp.cli import main
from kl2tp.config import load
from kl2tp.doctor import kernel
from kl2tp.doctor.machine import Machine
from kl2tp.kernel import features, ppp, pppox, probe, xfrm
from kl2tp.kernel.finding import Level
from kl2tp.kernel.netlink import KernelError, Message
from kl2tp.kernel.scratch import Scratch, scratch
from kl2tp.model import ciphers

CONFIG = """\
tunnels:
  madrid:
    local: 198.51.100.1
    remote: 203.0.113.7
    encapsulation: udp
    ids: 1001/2001
    ipsec: {key_file: KEY, proposal: chacha20poly1305}
    sessions: {lan: {interface: mad0}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    key = tmp_path / "madrid.key"
    assert main(["genkey", "--output", str(key)]) == 0
    path = tmp_path / "kl2tp.yaml"
    path.write_text(CONFIG.replace("KEY", str(key)))
    return path


def everything() -> str:
    """What the kernel has in this namespace, as others see it."""
    commands = ("ip link", "ip -d l2tp show tunnel", "ip -d l2tp show session", "ip xfrm state", "ip xfrm policy")
    run = [subprocess.run(c.split(), capture_output=True, text=True, check=True).stdout for c in commands]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return "\n".join([*run, tables])


def test_the_lab_kernel_has_every_feature() -> None:
    with scratch() as space:
        found = features.attempt(space, features.FEATURES)
    assert {key: str(error) for key, error in found.items() if error} == {}
    assert found.keys() == features.FEATURES.keys()


def test_trials_leave_nothing_behind_and_this_thread_at_home() -> None:
    before, home = everything(), os.readlink("/proc/thread-self/ns/net")
    with scratch() as space:
        assert os.readlink("/proc/thread-self/ns/net") == home
        features.attempt(space, features.FEATURES)
        assert everything() == before
    assert everything() == before


def test_trials_from_a_thread_move_no_other_thread() -> None:
    seen: list[str] = []

    def work() -> None:
        with scratch() as space:
            features.attempt(space, ["ethernet"])
        seen.append(os.readlink("/proc/thread-self/ns/net"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [os.readlink("/proc/self/ns/net")]


def test_a_failed_trial_leaves_the_others_valid() -> None:
    with scratch() as space:
        with pytest.raises(KernelError) as caught:
            space.netlink(xfrm.NETLINK_XFRM).request(Message(xfrm.NEWSA, 0, b""))
        assert caught.value.code == errno.EINVAL
        space.policy()
        space.sa("aes256gcm16")


def test_nothing_is_missing_for_an_ordinary_configuration(config: Path) -> None:
    assert probe.missing(load(config)) == []


def test_a_missing_namespace_is_named_with_the_tunnels_that_need_it(config: Path) -> None:
    config.write_text(config.read_text() + "    netns: nowhere\n")
    (finding,) = probe.missing(load(config))
    assert (finding.level, finding.what) == (Level.WARN, "there is no network namespace nowhere")
    assert (finding.why, finding.mend) == ("needed by madrid", "ip netns add nowhere")


def test_missing_bridges_and_devices_are_named_with_how_to_make_them(config: Path) -> None:
    text = config.read_text().replace("interface: mad0", "interface: {name: mad0, bridge: br-no}")
    config.write_text(text + "    route: {device: eth-no}\n")
    found = {finding.what: finding for finding in probe.missing(load(config))}
    assert found.keys() == {"there is no device eth-no", "there is no bridge br-no"}
    mend = found["there is no bridge br-no"].mend
    assert mend == "ip link add br-no up type bridge"
    subprocess.run(mend.split(), check=True)
    try:
        assert [finding.what for finding in probe.missing(load(config))] == ["there is no device eth-no"]
    finally:
        subprocess.run(["ip", "link", "delete", "br-no"], check=True)


def test_a_device_that_cannot_offload_is_named(config: Path) -> None:
    config.write_text(config.read_text().replace("chacha20poly1305}", "aes256gcm16, offload: {device: none0}}"))
    (finding,) = probe.missing(load(config))
    assert (finding.level, finding.what) == (Level.WARN, "there is no device none0")
    subprocess.run(["ip", "link", "add", "none0", "type", "veth"], check=True)
    try:
        (finding,) = probe.missing(load(config))
    finally:
        subprocess.run(["ip", "link", "delete", "none0"], check=True)
    assert (finding.level, finding.what) == (Level.WARN, "device none0 cannot do ESP")


@pytest.fixture
def without_ciphers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without ChaCha20: the name that it is asked for is one that no kernel has."""
    broken = replace(ciphers.CIPHERS["chacha20poly1305"], kernel_encryption="rfc7539esp(none,none)")
    monkeypatch.setitem(ciphers.CIPHERS, "chacha20poly1305", broken)


def test_a_cipher_that_the_kernel_lacks_is_named_before_anything_is_touched(
    config: Path, without_ciphers: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything()
    (finding,) = probe.missing(load(config))
    assert finding.level == Level.FAIL
    assert finding.what.startswith("this kernel has no ESP with chacha20poly1305: Function not implemented")
    assert main(["-c", str(config), "--run-dir", str(tmp_path / "run"), "apply"]) != 0
    assert "chacha20poly1305" in capsys.readouterr().err
    assert everything() == before


def test_doctor_finds_nothing_in_the_way(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json", "-c", str(config), "--run-dir", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert [finding for finding in found if finding["level"] == "fail"] == []
    assert status == 0
    assert {"level": "ok", "what": "ESP with chacha20poly1305", "why": "", "mend": ""} in found


def test_doctor_works_without_privileges(tmp_path: Path) -> None:
    """It tries in a user namespace of its own; only /dev/ppp stays root's."""
    code = (
        "import os, sys; from kl2tp.doctor import kernel;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); found = kernel._tried();"
        "sys.exit({key: error.code for key, error in found.items() if error} != {'ppp': 13})"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_feature_is_reported_by_the_doctor(without_ciphers: None, config: Path) -> None:
    found = [finding for finding in kernel.features(load(config)) if finding.level == Level.FAIL]
    assert [finding.why for finding in found] == ["the configuration needs it"]
    assert found[0].mend


CALLS = """\
lns:
  office:
    listen: 198.51.100.1
    ppp: {auth: none, local: 10.9.0.1, pool: 10.9.0.0/24}
"""


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    path = tmp_path / "kl2tp.yaml"
    path.write_text(CALLS)
    return path


def test_nothing_is_missing_for_calls(calls: Path) -> None:
    assert probe.missing(load(calls)) == []


@pytest.fixture
def without_ppp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without PPP over L2TP: the protocol that it is asked for is one that no kernel has."""
    monkeypatch.setattr(pppox, "_PX_PROTO_OL2TP", 9)


@pytest.mark.parametrize("privileged", [True, False])
def test_a_kernel_without_ppp_is_named_before_anything_is_touched(
    calls: Path,
    without_ppp: None,
    privileged: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also with the capabilities that the daemon's unit gives it, which allow no namespace for trials."""
    if not privileged:
        monkeypatch.setattr(probe, "scratch", _forbidden)
    before = everything()
    (finding,) = probe.missing(load(calls))
    assert finding.level == Level.FAIL
    assert finding.what.startswith("this kernel has no PPP over L2TP: Protocol ")
    for command in (["apply"], ["daemon", "--state-dir", str(tmp_path / "state")]):
        assert main(["-c", str(calls), "--run-dir", str(tmp_path / "run"), *command]) == 2
        said = capsys.readouterr().err
        assert "this machine lacks what the configuration needs; nothing was touched" in said
        assert "no PPP over L2TP" in said
    assert everything() == before


@contextmanager
def _forbidden() -> Iterator[Scratch]:
    raise KernelError(errno.EPERM, "a network namespace for trials")
    yield  # type: ignore[unreachable]


def test_a_kernel_without_the_node_of_ppp_is_named(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppp, "_DEVICE", "/dev/none")
    (finding,) = probe.missing(load(calls))
    assert (finding.level, finding.what) == (Level.FAIL, "this kernel has PPP, but there is no /dev/ppp")


def test_doctor_finds_the_keeper_and_who_holds_the_port(calls: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    keeper = Keeper(run_dir)
    try:
        found = {f.what: f for f in doctor.examine(Machine(), str(calls), str(run_dir))}
        assert f"the keeper runs (process {keeper.process.pid})" in found
        assert found["UDP port 1701 is free"].level == Level.OK
    finally:
        keeper.end()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 1701))
        found = {f.what: f for f in doctor.examine(Machine(), str(calls), str(run_dir))}
    held = [f.level for what, f in found.items() if what.endswith("holds UDP port 1701")]
    assert held == [Level.FAIL]
    assert found[f"no keeper runs for {run_dir}"].level == Level.WARN
