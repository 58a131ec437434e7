"""`kl2tp doctor` on machines of all kinds, which are directories here."""

import errno
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import pytest

from kl2tp import doctor
from kl2tp.cli import doctor as command
from kl2tp.cli import main
from kl2tp.cli.terminal import Paint
from kl2tp.doctor import files, kernel, limits, neighbours
from kl2tp.doctor.machine import Machine
from kl2tp.ipsec.keys import generate, new_file
from kl2tp.kernel import features
from kl2tp.kernel.finding import Finding, Level, fail, ok, warn
from kl2tp.kernel.netlink import KernelError
from kl2tp.model.desired import Desired
from kl2tp.model.spec import CookieSpec, Encap, InterfaceSpec, IpsecSpec, SessionSpec, TunnelSpec
from unit.doctor.machines import UDP, Box, address, bad, udp_line


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def tunnel(**values: Any) -> TunnelSpec:
    session = SessionSpec("lan", 1, 1, InterfaceSpec("mad0"))
    local, remote = values.pop("local", "198.51.100.1"), values.pop("remote", "203.0.113.7")
    given: dict[str, Any] = {"name": "madrid", "id": 1, "peer_id": 1, "sessions": (session,)} | values
    return TunnelSpec(local=address(local), remote=address(remote), **given)


# The kernel's version


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.12.95+deb13-amd64", (6, 12)),
        ("5.4.0-1103-aws", (5, 4)),
        ("6.18-rc1", (6, 181)),
        ("7", (7, 0)),
        ("6.1", (6, 1)),
    ],
)
def test_releases_are_understood(release: str, version: tuple[int, int]) -> None:
    found = features.version(release)
    assert found == version or (release.endswith("rc1") and found >= (6, 18))


def test_an_old_kernel_is_in_the_way(tmp_path: Path) -> None:
    (finding,) = kernel.version(Box(tmp_path, "4.19.0-amd64"))
    assert finding.level == Level.FAIL
    assert "5.4" in finding.why


@pytest.mark.parametrize(
    ("release", "tunnels", "warnings"),
    [
        ("5.10.1", 5000, 4),
        ("6.1.0", 5000, 4),
        ("6.6.0", 5000, 3),
        ("6.12.0", 5000, 1),
        ("6.13.0", 5000, 0),
        ("6.1.0", 10, 0),
        ("6.1.0", 500, 1),
    ],
)
def test_weak_spots_count_where_there_are_many_tunnels(
    tmp_path: Path, release: str, tunnels: int, warnings: int
) -> None:
    found = list(kernel.weak_spots(Box(tmp_path, release), tunnels))
    assert len(bad(found)) == warnings
    assert all(finding.mend for finding in bad(found))


def test_a_weak_spot_that_is_mended_is_not_mentioned(tmp_path: Path) -> None:
    box = Box(tmp_path, "6.1.0")
    assert any("deleting" in finding.what for finding in kernel.weak_spots(box, 500))
    box.put("/sys/kernel/rcu_expedited", "1\n")
    assert not any("deleting" in finding.what for finding in kernel.weak_spots(box, 500))


# Features


def refused(code: int = errno.ENOENT, detail: str = "") -> KernelError:
    return KernelError(code, detail)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[str, KernelError | None]:
    """What trials give: everything works, unless the test changes it."""
    results: dict[str, KernelError | None] = dict.fromkeys(features.FEATURES)
    monkeypatch.setattr(kernel, "_tried", lambda: results)
    return results


def test_what_works_is_good(tried: dict[str, KernelError | None]) -> None:
    assert bad(kernel.features(None)) == []


def test_a_feature_that_the_configuration_needs_is_in_the_way(tried: dict[str, KernelError | None]) -> None:
    tried["ip6"] = refused(errno.EPROTONOSUPPORT)
    tried["cipher chacha20poly1305"] = refused(errno.ENOSYS, "Requested AEAD algorithm not found")
    six = Desired((tunnel(local="2001:db8::1", remote="2001:db8::2"),))
    first, second = bad(kernel.features(six))
    assert (first.level, first.why) == (Level.FAIL, "the configuration needs it")
    assert first.what.startswith("this kernel has no L2TPv3 over IP over IPv6: Protocol not supported")
    assert (second.level, second.what) == (Level.WARN, "this kernel lacks: ESP with chacha20poly1305")


def test_without_a_configuration_the_essential_is_needed(tried: dict[str, KernelError | None]) -> None:
    tried["l2tp"] = refused()
    (finding,) = bad(kernel.features(None))
    assert finding.level == Level.FAIL
    assert finding.mend


def test_no_namespace_for_trials_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> dict[str, KernelError | None]:
        raise KernelError(errno.EPERM)

    monkeypatch.setattr(kernel, "_tried", nothing)
    (finding,) = kernel.features(None)
    assert (finding.level, finding.mend) == (Level.WARN, "sudo kl2tp doctor")


def test_needs_follow_from_the_configuration() -> None:
    ipsec = IpsecSpec("aes128-sha256", "/k", esn=True, nat_local_port=4500, nat_remote_port=4500)
    udp = tunnel(encap=Encap.UDP, local_port=1701, remote_port=1701, ipsec=ipsec)
    assert features.needed(Desired((udp,))) == {
        "l2tp",
        "udp4",
        "ethernet",
        "xfrm",
        "nftables",
        "cipher aes128-sha256",
        "nat4",
        "esn",
    }
    clear = tunnel(sessions=(SessionSpec("lan", 1, 1, InterfaceSpec("mad0", mss=None)),))
    assert features.needed(Desired((clear,))) == {"l2tp", "ip4", "ethernet"}
    assert features.needed(Desired()) == set()


class Space:
    """A stand-in for the namespace: trials say what they are, and some fail."""

    cipher = "aes256gcm16"

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.tried: list[str] = []

    def _try(self, what: str) -> None:
        self.tried.append(what)
        if what in self.broken:
            raise refused()

    def family(self) -> None:
        self._try("family")

    def tunnel(self, encap: Encap, *, v6: bool) -> None:
        self._try(f"{encap.name} {v6}")

    def pseudowire(self) -> None:
        self._try("pseudowire")

    def policy(self) -> None:
        self._try("policy")

    def sa(self, name: str = "", **how: object) -> None:
        self._try(f"sa {name or self.cipher}{' '.join(how)}")

    def table(self) -> None:
        self._try("table")

    def ppp_device(self) -> None:
        self._try("ppp device")

    def ppp_session(self) -> None:
        self._try("ppp session")


def attempt(space: Space, *keys: str) -> dict[str, KernelError | None]:
    return features.attempt(space, keys)  # type: ignore[arg-type]


def test_only_what_is_asked_for_is_tried_and_what_that_needs() -> None:
    space = Space()
    found = attempt(space, "ethernet")
    assert space.tried == ["family", "UDP False", "pseudowire"]
    assert found == {"l2tp": None, "udp4": None, "ethernet": None}


def test_what_needs_a_missing_feature_is_not_tried() -> None:
    space = Space("family")
    assert list(attempt(space, *features.FEATURES)) == [
        "l2tp",
        *(key for key in features.FEATURES if features.FEATURES[key].needs not in ("l2tp", "udp4") and key != "l2tp"),
    ]


def test_a_trial_that_takes_any_cipher_takes_one_that_works() -> None:
    space = Space("sa aes256gcm16")
    attempt(space, "cipher aes256gcm16", "cipher chacha20poly1305", "esp6")
    assert space.tried[-1] == "sa chacha20poly1305v6"
    without = Space("sa aes256gcm16")
    assert "esp6" not in attempt(without, "cipher aes256gcm16", "esp6")


# What brings a feature


@pytest.fixture
def ethernet() -> features.Feature:
    return features.FEATURES["ethernet"]


def test_a_module_that_is_there_is_loaded(tmp_path: Path, ethernet: features.Feature) -> None:
    directory = tmp_path / "6.1.0"
    directory.mkdir()
    (directory / "modules.dep").write_text("kernel/net/l2tp/l2tp_eth.ko.xz: kernel/net/l2tp/l2tp_netlink.ko.xz\n")
    assert features.how_to_get(ethernet, "6.1.0", str(tmp_path)) == "modprobe -a l2tp_eth"


def test_a_kernel_that_is_too_old_is_said_to_be(tmp_path: Path) -> None:
    mend = features.how_to_get(features.FEATURES["nat6"], "5.4.0", str(tmp_path))
    assert mend == "use a kernel from 5.8 on"


@pytest.mark.parametrize(
    ("os_release", "release", "mend"),
    [
        ("ID=ubuntu\nID_LIKE=debian\n", "6.8.0-45-generic", "apt install linux-modules-extra-6.8.0-45-generic"),
        ('ID=rocky\nID_LIKE="rhel centos fedora"\n', "5.14.0-1", "dnf install kernel-modules-extra-5.14.0-1"),
        ("ID=debian\n", "6.1.0-28-cloud-amd64", "apt install linux-image-amd64"),
        ("ID=debian\n", "6.1.0-28-amd64", ""),
        ("ID=arch\n", "6.12.1-arch1", ""),
    ],
)
def test_distributions_have_packages(tmp_path: Path, os_release: str, release: str, mend: str) -> None:
    path = tmp_path / "os-release"
    path.write_text(os_release)
    assert features._package(release, str(path)) == mend


def test_missing_esp_is_told_from_a_missing_cipher() -> None:
    without_esp = features.lacking("cipher aes256gcm16", refused(errno.EPROTONOSUPPORT, "Requested type not found"))
    assert "no ESP:" in without_esp.what
    assert "INET_ESP" in without_esp.mend or "esp4" in without_esp.mend
    without_gcm = features.lacking("cipher aes256gcm16", refused(errno.ENOSYS))
    assert "no ESP with aes256gcm16" in without_gcm.what


def test_ipv6_switched_off_is_told_from_missing_modules() -> None:
    assert features.lacking("udp6", refused(errno.EADDRNOTAVAIL)).what == "IPv6 is switched off"


# Settings


def test_small_buffers_are_no_matter_for_the_privileged(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.sysctls(net__core__rmem_max=212992, net__core__wmem_max=8 << 20)
    monkeypatch.setattr(limits, "capable", lambda number: True)
    assert bad(limits.sysctls(box, None)) == []
    monkeypatch.setattr(limits, "capable", lambda number: False)
    (finding,) = bad(limits.sysctls(box, None))
    assert finding.mend == "sysctl -w net.core.rmem_max=4194304"


def test_a_costly_queue_matters_with_many_devices(box: Box) -> None:
    box.sysctls(net__core__default_qdisc="fq_codel")
    assert bad(limits.sysctls(box, Desired((tunnel(),)))) == []
    (finding,) = bad(limits.sysctls(box, Desired((tunnel(),) * 1600)))
    assert finding.why == "100 MiB for 1,600 sessions"
    box.sysctls(net__core__default_qdisc="noqueue")
    assert bad(limits.sysctls(box, Desired((tunnel(),) * 1600))) == []


def test_waiting_for_an_sa_is_warned_of(box: Box) -> None:
    box.sysctls(net__core__xfrm_larval_drop=0, net__core__xfrm_acq_expires=3600)
    assert [finding.mend for finding in bad(limits.sysctls(box, None))] == [
        "sysctl -w net.core.xfrm_larval_drop=1",
        "sysctl -w net.core.xfrm_acq_expires=30",
    ]


def test_descriptors_are_counted_by_namespace(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    assert bad(limits.descriptors(box, None)) == []
    many = Desired(tuple(tunnel(netns=f"n{n}") for n in range(100)))
    (finding,) = bad(limits.descriptors(box, many))
    assert (finding.level, finding.what) == (Level.FAIL, "the limit of open files is 256")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert bad(limits.descriptors(box, many)) == []
    box.sysctls(fs__nr_open=512)
    assert bad(limits.descriptors(box, many))[0].mend == "sysctl -w fs.nr_open=1128"


def test_capabilities_are_asked_for_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "capable", lambda number: False)
    spaces = Desired((tunnel(netns="blue"),))
    assert [finding.what for finding in bad(limits.capabilities(spaces))] == [
        "this user has no capability CAP_NET_ADMIN",
        "this user has no capability CAP_SYS_ADMIN",
    ]
    assert len(bad(limits.capabilities(Desired((tunnel(),))))) == 1


# The processor

X86 = "processor\t: 0\nflags\t\t: fpu aes pclmulqdq avx\n"


@pytest.mark.parametrize(
    ("cpuinfo", "what"),
    [
        (X86, ""),
        ("processor : 0\nFeatures : fp asimd aes pmull\n", ""),
        ("processor : 0\nflags : fpu sse2\n", "this processor has no instructions for AES"),
        ("processor : 0\nflags : fpu aes\n", "this processor has no instructions for GCM"),
        ("", ""),
    ],
)
def test_processors(box: Box, cpuinfo: str, what: str) -> None:
    box.put("/proc/cpuinfo", cpuinfo)
    assert "".join(finding.what for finding in bad(limits.processor(box, None))) == what


def test_where_nothing_is_encrypted_the_processor_is_no_matter(box: Box) -> None:
    box.put("/proc/cpuinfo", "flags : fpu\n")
    assert list(limits.processor(box, Desired((tunnel(),)))) == []
    assert bad(limits.processor(box, Desired((tunnel(ipsec=IpsecSpec("aes256gcm16", "/k")),))))
    assert bad(limits.processor(box, Desired()))


def test_a_slow_driver_on_a_fast_processor_is_warned_of(box: Box) -> None:
    box.put("/proc/cpuinfo", X86)
    slow = "name : rfc4106(gcm(aes))\ndriver : rfc4106(gcm_base(ctr(aes-generic),ghash-generic))\npriority : 100\n"
    box.put("/proc/crypto", f"name : sha256\ndriver : sha256-generic\npriority : 100\n\n{slow}")
    assert bad(limits.processor(box, None))[0].mend.startswith("modprobe aesni_intel")
    fast = "name : rfc4106(gcm(aes))\ndriver : rfc4106-gcm-aesni\npriority : 400\n"
    box.put("/proc/crypto", f"{slow}\n{fast}")
    assert bad(limits.processor(box, None)) == []


# Others on the machine

def test_a_free_port_is_good(box: Box) -> None:
    box.put("/proc/net/udp", UDP + udp_line("0.0.0.0", 53, 11))
    assert bad(neighbours.ports(box, None, "/none")) == []


def test_who_holds_the_port_is_named(box: Box) -> None:
    box.put("/proc/net/udp", UDP + udp_line("0.0.0.0", 1701, 12))
    box.process(811, "xl2tpd", 5, 12)
    (finding,) = neighbours.ports(box, None, "/none")
    assert (finding.level, finding.what) == (Level.WARN, "xl2tpd (process 811) holds UDP port 1701")
    wanted = Desired((tunnel(encap=Encap.UDP, local_port=1701, remote_port=1701),))
    assert [finding.level for finding in neighbours.ports(box, wanted, "/none")] == [Level.FAIL]


def test_a_port_on_another_address_is_not_in_the_way(box: Box) -> None:
    box.put("/proc/net/udp6", UDP + udp_line("2001:db8::9", 1701, 12))
    box.process(811, "xl2tpd", 12)
    wanted = Desired((tunnel(local="2001:db8::1", remote="2001:db8::2", encap=Encap.UDP, local_port=1701),))
    assert [finding.level for finding in neighbours.ports(box, wanted, "/none")] == [Level.WARN]


def test_sockets_of_the_kernels_own_are_no_ones(box: Box) -> None:
    box.put("/proc/net/udp", UDP + udp_line("198.51.100.1", 1701, 99))
    box.process(811, "sshd", 5)
    assert bad(neighbours.ports(box, None, "/none")) == []


def test_other_daemons_are_named(box: Box) -> None:
    box.process(1, "systemd")
    box.process(2, "charon-systemd")
    box.process(3, "accel-pppd")
    assert [finding.what for finding in neighbours.daemons(box)] == [
        "charon-systemd (process 2) runs too",
        "accel-pppd (process 3) runs too",
    ]


def test_managers_of_interfaces_want_rules(box: Box) -> None:
    box.process(1, "NetworkManager")
    box.process(2, "systemd-network")
    assert len(bad(neighbours.managers(box))) == 2
    box.put("/usr/lib/udev/rules.d/90-kl2tp.rules", "")
    box.put("/etc/systemd/network/05-kl2tp.network", "")
    assert bad(neighbours.managers(box)) == []


def test_forbidden_modules_are_found_with_the_file(box: Box) -> None:
    box.put("/etc/modprobe.d/l2tp.conf", "# why\nblacklist l2tp-eth\ninstall l2tp_ip /bin/false\nblacklist pcspkr\n")
    first, second = neighbours.modules(box)
    assert (first.level, first.what) == (Level.FAIL, "/etc/modprobe.d/l2tp.conf keeps module l2tp_ip from being loaded")
    assert (second.level, second.what) == (Level.WARN, "/etc/modprobe.d/l2tp.conf blacklists module l2tp_eth")
    assert first.mend.startswith("sed -i ")
    box.put("/proc/modules", "l2tp_ip 16384 0 - Live 0x0\nl2tp_eth 16384 0 - Live 0x0\n")
    assert list(neighbours.modules(box)) == []


def test_a_packages_ban_is_lifted_by_a_file_over_it(box: Box) -> None:
    box.put("/usr/lib/modprobe.d/l2tp.conf", "blacklist l2tp_eth\n")
    (finding,) = neighbours.modules(box)
    assert finding.mend == "ln -s /dev/null /etc/modprobe.d/l2tp.conf"
    box.put("/etc/modprobe.d/l2tp.conf", "")
    assert list(neighbours.modules(box)) == []


# kl2tp's own files


def test_a_machine_without_configuration_is_told_where_to_begin(tmp_path: Path) -> None:
    desired, (finding,) = files.configuration(str(tmp_path / "kl2tp.yaml"))
    assert desired is None
    assert (finding.level, finding.mend) == (Level.WARN, "kl2tp schema")


def test_a_broken_configuration_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "kl2tp.yaml"
    path.write_text("tunnels: {madrid: {}}\n")
    _, (finding,) = files.configuration(str(path))
    assert finding.level == Level.FAIL
    assert finding.mend == f"kl2tp validate {path}"


def test_key_files_are_read_but_not_shown(tmp_path: Path) -> None:
    good, loose = tmp_path / "good.key", tmp_path / "loose.key"
    for path in (good, loose):
        path.write_text(secret := generate())
        path.chmod(0o600)
    loose.chmod(0o644)
    tunnels = [tunnel(ipsec=IpsecSpec("aes256gcm16", str(path))) for path in (good, loose, tmp_path / "none.key")]
    found = list(files.keys(Desired(tuple(tunnels)), "/none"))
    assert [finding.level for finding in found] == [Level.FAIL, Level.FAIL]
    assert "chmod 600" in found[0].mend
    assert "genkey" in found[1].mend
    assert secret.split()[1] not in repr(found)
    assert [finding.what for finding in files.keys(Desired((tunnels[0],)), "/none")] == [
        "1 key files, each readable for its owner only"
    ]


def test_cookies_that_would_change_with_the_key_are_a_warning(tmp_path: Path) -> None:
    bare, whole = tmp_path / "bare.key", tmp_path / "whole.key"
    bare.write_text(generate())
    whole.write_text(new_file())
    for path in (bare, whole):
        path.chmod(0o600)
    derived = SessionSpec("lan", 1, 1, InterfaceSpec("mad0"), CookieSpec(8))
    given = SessionSpec("lan", 1, 1, InterfaceSpec("mad0"), CookieSpec(8, bytes(8), bytes(8)))

    def found(path: Path, session: SessionSpec) -> list[Finding]:
        spec = tunnel(ipsec=IpsecSpec("aes256gcm16", str(path)), sessions=(session,))
        return bad(files.keys(Desired((spec,)), "/none"))

    (finding,) = found(bare, derived)
    assert finding.level == Level.WARN
    assert str(bare) in finding.what
    assert "cookie" in finding.what
    assert finding.mend == f"kl2tp genkey | sed s/key/cookie/ >> {bare}"
    assert found(whole, derived) == found(bare, given) == []
    clear = tunnel(secret_file=str(bare), sessions=(derived,))
    assert bad(files.keys(Desired((clear,)), "/none")) == []  # a file for cookies alone keeps its key


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_keys_are_read_with_the_daemons_rights() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where another user can come
        directory = Path(name)
        directory.chmod(0o755)
        run_dir, key = directory / "run", directory / "a.key"
        run_dir.mkdir()
        key.write_text(generate())
        key.chmod(0o600)
        for path in (run_dir, key):
            os.chown(path, 65534, 65534)
        desired = Desired((tunnel(ipsec=IpsecSpec("aes256gcm16", str(key))),))
        assert bad(files.keys(desired, str(run_dir))) == []
        os.chown(key, 0, 0)
        assert [finding.what for finding in files.keys(desired, str(run_dir))] == [f"{key}: may not be read"]
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_a_run_directory_may_be_made_later(tmp_path: Path) -> None:
    found = list(files.run_directory(str(tmp_path / "run" / "kl2tp")))
    assert found[0] == ok(f"{tmp_path}/run/kl2tp is writable")
    (tmp_path / "file").touch()
    assert next(files.run_directory(str(tmp_path / "file"))).level == Level.FAIL


# All of it


def test_the_examination_ends_with_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [ok("kernel 6.12"), warn("slow", "it matters", "mend it"), fail("missing", "needed", "")]
    monkeypatch.setattr(doctor, "examine", lambda machine, config, run_dir: iter(found))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out == (
        "ok    kernel 6.12\n"
        "warn  slow\n      it matters\n      mend: mend it\n"
        "fail  missing\n      needed\n"
        "\n1 thing in the way, 1 warning.\n"
    )
    assert main(["doctor", "--json"]) == 1
    assert '"level": "fail"' in capsys.readouterr().out
    found.pop()
    assert main(["doctor", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("warn  slow\n")


def test_levels_have_colours() -> None:
    assert next(command.text([ok("x")], Paint(True))) == "\x1b[32;1mok  \x1b[0m  x"


def test_a_whole_examination_changes_nothing_and_raises_nothing(tmp_path: Path) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    found = list(doctor.examine(Machine(), str(tmp_path / "none.yaml"), str(tmp_path)))
    assert found[0].what.startswith("kernel ")
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert list(tmp_path.iterdir()) == []
