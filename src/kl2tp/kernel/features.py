"""What kl2tp uses of the kernel, feature by feature: how to try it, and what brings it where it is missing."""

import errno
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from kl2tp.kernel.finding import Finding, fail
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.release import version as version
from kl2tp.kernel.scratch import PPP_NODE, Scratch
from kl2tp.model import ciphers
from kl2tp.model.desired import Desired
from kl2tp.model.ike import IkeSpec
from kl2tp.model.spec import Encap, IpsecSpec, Mode


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that the kernel may lack."""

    name: str
    attempt: Callable[[Scratch], object]
    modules: tuple[str, ...]
    symbol: str
    """Of the kernel's configuration, without CONFIG_."""
    needs: str = ""
    """The feature without which this one cannot be tried."""
    since: tuple[int, int] = (0, 0)
    """The first kernel that has it."""


def _tunnel_feature(encap: Encap, v6: bool) -> Feature:
    name = f"L2TPv3 over {encap.name} over IPv{6 if v6 else 4}"
    if encap == Encap.UDP:
        return Feature(name, lambda s: s.tunnel(encap, v6=v6), ("l2tp_core",), "L2TP_V3", "l2tp")
    modules = ("l2tp_ip6",) if v6 else ("l2tp_ip",)
    return Feature(name, lambda s: s.tunnel(encap, v6=v6), modules, "L2TP_IP", "l2tp")


_CIPHER_PARTS: dict[str, tuple[tuple[str, ...], str]] = {
    "rfc4106(gcm(aes))": (("gcm", "aes_generic", "seqiv"), "CRYPTO_GCM"),
    "rfc7539esp(chacha20,poly1305)": (("chacha20poly1305",), "CRYPTO_CHACHA20POLY1305"),
    "cbc(aes)": (("cbc", "authenc", "echainiv", "sha512_generic"), "CRYPTO_CBC"),
}


def _cipher_feature(cipher: ciphers.Cipher) -> Feature:
    modules, symbol = _CIPHER_PARTS[cipher.kernel_encryption]
    return Feature(f"ESP with {cipher.name}", lambda s: s.sa(cipher.name), modules, symbol, "xfrm")


_ANY4 = (bytes(4), 1701)
_CIPHER = "cipher "
ANY_CIPHER = "any cipher"
"""What features need whose trial takes any SA."""
PPP, PPP_SESSION = "ppp", "pppol2tp"
_PPP_CLASS = "/sys/class/ppp"
_ESP = Feature("ESP", lambda s: s.sa(), ("esp4",), "INET_ESP")
FEATURES: dict[str, Feature] = {
    "l2tp": Feature("L2TP over netlink", lambda s: s.family(), ("l2tp_netlink",), "L2TP"),
    **{f"{encap.name.lower()}{6 if v6 else 4}": _tunnel_feature(encap, v6) for encap in Encap for v6 in (False, True)},
    "ethernet": Feature("Ethernet pseudowires", lambda s: s.pseudowire(), ("l2tp_eth",), "L2TP_ETH", "udp4"),
    "xfrm": Feature("IPsec over netlink", lambda s: s.policy(), ("xfrm_user",), "XFRM_USER"),
    **{f"{_CIPHER}{name}": _cipher_feature(cipher) for name, cipher in ciphers.CIPHERS.items()},
    "esp6": Feature("ESP over IPv6", lambda s: s.sa(v6=True), ("esp6",), "INET6_ESP", ANY_CIPHER),
    "tunnel4": Feature(
        "ESP in tunnel mode over IPv4",
        lambda s: s.sa(mode=Mode.TUNNEL),
        ("xfrm4_mode_tunnel",),
        "INET_XFRM_MODE_TUNNEL",
        ANY_CIPHER,
    ),
    "tunnel6": Feature(
        "ESP in tunnel mode over IPv6",
        lambda s: s.sa(v6=True, mode=Mode.TUNNEL),
        ("xfrm6_mode_tunnel",),
        "INET6_XFRM_MODE_TUNNEL",
        "esp6",
    ),
    "nat4": Feature("ESP in UDP over IPv4", lambda s: s.sa(nat=True), ("esp4",), "INET_ESP", ANY_CIPHER),
    "nat6": Feature("ESP in UDP over IPv6", lambda s: s.sa(v6=True, nat=True), ("esp6",), "INET6_ESP", "esp6", (5, 8)),
    "esn": Feature("extended sequence numbers", lambda s: s.sa(esn=True), ("esp4",), "INET_ESP", ANY_CIPHER),
    "nftables": Feature("nftables", lambda s: s.table(), ("nf_tables",), "NF_TABLES_INET"),
    PPP: Feature("PPP", lambda s: s.ppp_device(), ("ppp_generic",), "PPP"),
    PPP_SESSION: Feature("PPP over L2TP", lambda s: s.ppp_session(), ("l2tp_ppp",), "PPPOL2TP", "l2tp"),
}
ESSENTIAL = frozenset({"l2tp", "udp4", "ip4", "ethernet", "xfrm", f"{_CIPHER}{ciphers.DEFAULT}", "nftables"})
"""What kl2tp is nothing without, whatever is configured."""


def needed(desired: Desired) -> set[str]:
    """The features that a configuration asks for."""
    keys: set[str] = set()
    for tunnel in desired.tunnels:
        six = len(tunnel.local) == 16
        keys |= {"l2tp", f"{tunnel.encap.name.lower()}{6 if six else 4}"}
        if tunnel.sessions:
            keys.add("ethernet")
        if any(s.interface.mss is not None and not s.interface.bridge for s in tunnel.sessions):
            keys.add("nftables")
        if tunnel.ipsec:
            keys |= _needed_by_ipsec(tunnel.ipsec, six=six)
        if tunnel.ike:
            keys |= _needed_by_ike(tunnel.ike, six=six) | {"nftables"}
    return keys | _needed_by_calls(desired)


def _needed_by_calls(desired: Desired) -> set[str]:
    if not desired.calls:
        return set()
    # An LNS without `listen` listens on IPv6 too, where there is any.
    outside = [place for lns in desired.lns for place in lns.listen or (_ANY4,)]
    outside += [lac.remotes[0] for lac in desired.lac]
    keys = {"l2tp", PPP, PPP_SESSION, *(f"udp{6 if len(address) == 16 else 4}" for address, _ in outside)}
    for profile in desired.calls:
        if profile.ike:
            keys |= _needed_by_ike(profile.ike, six=False)
    if any(lac.ike for lac in desired.lac):
        keys.add("nftables")
    return keys | ({"nftables"} if any(p.interface.mss is not None for p in desired.calls) else set())


def _needed_by_ike(ike: IkeSpec, *, six: bool) -> set[str]:
    """Without ciphers: which of them it will be is up to the peer too."""
    keys = {"xfrm", "esp6"} if six else {"xfrm"}
    return keys | ({f"tunnel{6 if six else 4}"} if ike.mode == Mode.TUNNEL else set())


def _needed_by_ipsec(ipsec: IpsecSpec, *, six: bool) -> set[str]:
    family = 6 if six else 4
    keys = {"xfrm", "nftables", f"{_CIPHER}{ipsec.cipher}"}
    if six:
        keys.add("esp6")
    if ipsec.mode == Mode.TUNNEL:
        keys.add(f"tunnel{family}")
    if ipsec.nat_local_port:
        keys.add(f"nat{family}")
    if ipsec.esn:
        keys.add("esn")
    return keys


def attempt(space: Scratch, keys: Collection[str]) -> dict[str, KernelError | None]:
    """Try features: the error of each, None for what works. What needs another that failed is left out."""
    wanted = set(keys)
    for key in keys:  # what others need is tried before them, and reported too
        while (key := FEATURES[key].needs) in FEATURES:
            wanted.add(key)
    found: dict[str, KernelError | None] = {}
    for key, feature in FEATURES.items():
        if key not in wanted or not _possible(feature, found):
            continue
        try:
            feature.attempt(space)
        except KernelError as error:
            found[key] = error
            continue
        found[key] = None
        if key.startswith(_CIPHER):
            space.cipher = key.removeprefix(_CIPHER)
    return found


def _possible(feature: Feature, found: Mapping[str, KernelError | None]) -> bool:
    """Whether what a feature needs is there."""
    if feature.needs == ANY_CIPHER:
        return any(error is None for key, error in found.items() if key.startswith(_CIPHER))
    return not feature.needs or (feature.needs in found and found[feature.needs] is None)


def lacking(key: str, error: KernelError, *, why: str = "") -> Finding:
    """The finding for a feature that does not work."""
    feature = FEATURES[key]
    if key == PPP and error.detail == PPP_NODE:
        return _without_node(error, why)
    if error.code in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and key.endswith("6"):
        mend = "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0"
        return fail("IPv6 is switched off", why or f"{feature.name} needs it", mend)
    if error.code == errno.EPROTONOSUPPORT and key.startswith(_CIPHER):  # it is ESP itself that is not there
        feature = _ESP
    return fail(f"this kernel has no {feature.name}: {error}", why, how_to_get(feature))


def _without_node(error: KernelError, why: str) -> Finding:
    """The finding for a /dev/ppp that cannot be opened."""
    if error.code == errno.EACCES:
        mend = f"chgrp kl2tp {PPP_NODE} && chmod 660 {PPP_NODE}   # `make install` has a udev rule for that"
        return fail(f"{PPP_NODE} may not be opened by this user", why, mend)
    if error.code == errno.EPERM:
        mend = f"give it the device: docker run --device={PPP_NODE}; lxc.cgroup2.devices.allow = c 108:0 rwm"
        return fail(f"this container may not use {PPP_NODE}", why, mend)
    if error.code == errno.ENOENT and os.path.exists(_PPP_CLASS):
        mend = f"mknod -m 660 {PPP_NODE} c 108 0 && chgrp kl2tp {PPP_NODE}"
        return fail(f"this kernel has PPP, but there is no {PPP_NODE}", why, mend)
    return fail(f"this kernel has no PPP: {error}", why, how_to_get(FEATURES[PPP]))


def how_to_get(feature: Feature, release: str = "", modules: str = "/lib/modules") -> str:
    """The command that brings a feature, as far as this machine tells."""
    release = release or os.uname().release
    if version(release) < feature.since:
        return f"use a kernel from {feature.since[0]}.{feature.since[1]} on"
    known = _module_names(f"{modules}/{release}")
    if present := [name for name in feature.modules if name in known]:
        return f"modprobe -a {' '.join(present)}"
    return _package(release) or f"use a kernel with CONFIG_{feature.symbol}"


def _module_names(directory: str) -> set[str]:
    """Modules that are there to be loaded."""
    try:
        with open(f"{directory}/modules.dep", encoding="utf-8") as file:
            paths = [line.partition(":")[0] for line in file]
    except OSError:
        return set()
    return {os.path.basename(path).partition(".")[0].replace("-", "_") for path in paths}


def _package(release: str, os_release: str = "/etc/os-release") -> str:
    """The command that installs a distribution's further kernel modules; empty where there is none such."""
    try:
        with open(os_release, encoding="utf-8") as file:
            fields = dict(line.rstrip("\n").partition("=")[::2] for line in file)
    except OSError:
        return ""
    names = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split()
    if "ubuntu" in names:
        return f"apt install linux-modules-extra-{release}"
    if {"fedora", "rhel", "centos"} & set(names):
        return f"dnf install kernel-modules-extra-{release}"
    if "debian" in names and "cloud" in release:
        return f"apt install linux-image-{release.rpartition('-')[2]}"
    return ""
