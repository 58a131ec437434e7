"""The files for systemd, udev and others."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[3] / "systemd"
SERVICE = SYSTEMD / "kl2tp.service"

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def settings(name: str) -> list[tuple[str, str]]:
    lines = (line.partition("=")[::2] for line in SERVICE.read_text().splitlines() if not line.startswith("#"))
    return [(key, value) for key, value in lines if key == name]


@needs_analyze
def test_the_unit_is_valid(tmp_path: Path) -> None:
    copy = tmp_path / "kl2tp.service"
    copy.write_text(SERVICE.read_text().replace("/usr/bin/kl2tp", "/bin/true"))
    found = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    complaints = [line for line in found.stderr.splitlines() if "FileDescriptorStorePreserve" not in line]
    assert (complaints, found.returncode) == ([], 0)


@needs_analyze
def test_the_security_score_is_no_worse_than_noted() -> None:
    noted = re.search(r"kl2tp\.service: ([0-9.]+) OK", SERVICE.read_text())
    assert noted
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(SERVICE)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if "offline" in found.stderr:
        pytest.skip("this systemd-analyze reads no files")
    score = re.search(r"exposure level for kl2tp\.service: ([0-9.]+)", found.stdout)
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
    assert settings("CapabilityBoundingSet") == [("CapabilityBoundingSet", "CAP_NET_ADMIN")]
    assert settings("AmbientCapabilities") == [("AmbientCapabilities", "CAP_NET_ADMIN")]


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
