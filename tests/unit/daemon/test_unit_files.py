"""The files for systemd, udev and others."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kl2tp.kernel.rtnl import DEVICE_GROUP

SYSTEMD = Path(__file__).parents[3] / "systemd"
SERVICE, KEEPER = SYSTEMD / "kl2tp.service", SYSTEMD / "kl2tp-keeper.service"
RULES, MAKEFILE = SYSTEMD / "kl2tp.rules", SYSTEMD.parent / "Makefile"
both = pytest.mark.parametrize("unit", [SERVICE, KEEPER], ids=lambda path: path.stem)

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def settings(name: str, unit: Path = SERVICE) -> list[tuple[str, str]]:
    lines = (line.partition("=")[::2] for line in unit.read_text().splitlines() if not line.startswith("#"))
    return [(key, value) for key, value in lines if key == name]


@needs_analyze
@both
def test_the_units_are_valid(tmp_path: Path, unit: Path) -> None:
    for each in (SERVICE, KEEPER):
        (tmp_path / each.name).write_text(each.read_text().replace("/usr/bin/kl2tp", "/bin/true"))
    command = ["systemd-analyze", "verify", str(tmp_path / unit.name)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in found.stderr.splitlines() if "FileDescriptorStorePreserve" not in line]
    assert (complaints, found.returncode) == ([], 0)


@needs_analyze
@both
def test_the_security_score_is_no_worse_than_noted(unit: Path) -> None:
    noted = re.search(rf"{unit.stem}\.service: ([0-9.]+) (OK|SAFE)", unit.read_text())
    assert noted
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if "offline" in found.stderr:
        pytest.skip("this systemd-analyze reads no files")
    score = re.search(rf"exposure level for {unit.stem}\.service: ([0-9.]+)", found.stdout)
    assert score
    assert float(score[1]) <= float(noted[1])


def test_the_ledger_survives_a_stop() -> None:
    assert settings("RuntimeDirectoryPreserve") == [("RuntimeDirectoryPreserve", "yes")]


def test_stopping_takes_nothing_down() -> None:
    assert settings("ExecStop") == []
    assert settings("ExecStopPost") == []


@pytest.mark.parametrize("name", ["IPAddressDeny", "SocketBindDeny", "MemoryMax", "MemoryHigh", "PrivateNetwork"])
def test_nothing_is_denied_that_the_tunnels_sockets_need(name: str) -> None:
    assert settings(name) == []


def test_no_more_capabilities_than_needed() -> None:
    for name in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert settings(name) == [(name, "CAP_NET_ADMIN CAP_NET_RAW")]
    assert settings("CapabilityBoundingSet", KEEPER) == [("CapabilityBoundingSet", "")]
    assert settings("AmbientCapabilities", KEEPER) == []


def test_of_the_devices_only_that_of_ppp_is_allowed() -> None:
    assert [settings(name)[0][1] for name in ("PrivateDevices", "DevicePolicy", "DeviceAllow")] == [
        "no",
        "closed",
        "/dev/ppp rw",
    ]


def test_the_keeper_is_there_before_the_daemon_and_goes_after_it() -> None:
    for name in ("After", "Wants"):
        assert KEEPER.name in settings(name)[0][1].split()
    assert settings("Before", KEEPER) == [("Before", SERVICE.name)]


def test_a_daemon_that_asks_for_another_gets_one() -> None:
    from kl2tp.daemon.main import RESTART

    assert settings("RestartForceExitStatus") == [("RestartForceExitStatus", str(RESTART))]


def test_both_have_descriptors_for_many_calls() -> None:
    for unit in (SERVICE, KEEPER):
        assert int(settings("LimitNOFILE", unit)[0][1]) >= 1 << 20


def test_what_a_reboot_shall_not_forget_is_where_the_daemon_looks_for_it() -> None:
    from kl2tp.cli.options import DEFAULT_STATE_DIR

    assert f"/var/lib/{settings('StateDirectory')[0][1]}" == DEFAULT_STATE_DIR


def test_dev_ppp_is_the_groups() -> None:
    (rule,) = [line for line in RULES.read_text().splitlines() if 'SUBSYSTEM=="ppp"' in line]
    assert 'GROUP="kl2tp", MODE="0660"' in rule
    assert "z /dev/ppp 0660 root kl2tp" in (SYSTEMD / "kl2tp.tmpfiles").read_text()


def test_only_our_own_ppp_devices_are_taken_from_network_managers() -> None:
    (rule,) = [line for line in RULES.read_text().splitlines() if 'ENV{DEVTYPE}=="ppp"' in line]
    assert f'ATTR{{netdev_group}}=="{DEVICE_GROUP}", ENV{{NM_UNMANAGED}}="1"' in rule
    parser = configparser.ConfigParser()
    parser.read(SYSTEMD / "kl2tp-calls.network")
    assert dict(parser["Match"]) == {"type": "ppp", "property": "NM_UNMANAGED=1"}


def test_every_file_is_installed_or_an_example() -> None:
    installed = re.findall(r"([\w.-]+):lib/", MAKEFILE.read_text())
    examples = {"kl2tp-netns.conf", "kl2tp-strongswan.conf", "kl2tp.sysctl"}
    assert {path.name for path in SYSTEMD.iterdir()} == {*installed, *examples}


@pytest.mark.parametrize("name", ["kl2tp.link", "kl2tp.network"])
def test_network_files_match_tunnel_devices_alone(name: str) -> None:
    parser = configparser.ConfigParser()
    parser.read(SYSTEMD / name)
    assert dict(parser["Match"]) == {"type": "l2tpeth"}


def test_every_file_says_where_it_goes() -> None:
    for path in SYSTEMD.iterdir():
        first = path.read_text().splitlines()[0]
        assert first.startswith("# ")
        assert path.suffix == ".service" or "/" in first
