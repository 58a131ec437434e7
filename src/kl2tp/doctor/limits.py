"""Findings about what this process may do, and how much: capabilities, settings of the kernel, descriptors."""

import resource
from collections.abc import Iterator

from kl2tp.doctor.machine import Machine
from kl2tp.kernel.finding import Finding, fail, ok, warn
from kl2tp.kernel.probe import CAP_NET_ADMIN, CAP_SYS_ADMIN, capable, namespaces
from kl2tp.model.desired import Desired

BUFFER = 4 << 20
"""Bytes that a netlink socket of ours wants."""
FDS, FDS_PER_NAMESPACE = 128, 10
MANY_DEVICES = 200
_QDISC_KIB = 64


def capabilities(desired: Desired | None) -> Iterator[Finding]:
    """What the kernel lets this process do."""
    spaces = namespaces(desired) if desired else {}
    if capable(CAP_NET_ADMIN):
        yield ok("capability CAP_NET_ADMIN")
    else:
        why = "without it only validate, schema, mtu and genkey work"
        yield warn("this user has no capability CAP_NET_ADMIN", why, "sudo kl2tp doctor")
    if spaces and not capable(CAP_SYS_ADMIN):
        why = f"the configuration names {len(spaces)} network namespaces: entering them needs it"
        yield warn("this user has no capability CAP_SYS_ADMIN", why, "sudo kl2tp doctor")


def sysctls(machine: Machine, desired: Desired | None) -> Iterator[Finding]:
    """Settings of the kernel that matter."""
    yield from _buffers(machine)
    yield from _queue(machine, sum(len(t.sessions) for t in desired.tunnels) if desired else 0)
    if machine.sysctl("net.core.xfrm_larval_drop") == "0":
        why = "programs that send to a tunnel without its SA would be stopped, rather than their packets dropped"
        yield warn("net.core.xfrm_larval_drop is 0", why, "sysctl -w net.core.xfrm_larval_drop=1")
    expires = machine.sysctl("net.core.xfrm_acq_expires")
    if expires.isdecimal() and int(expires) > 300:
        why = "each packet for which an SA is missing leaves a trace in the kernel for that many seconds"
        yield warn(f"net.core.xfrm_acq_expires is {expires}", why, "sysctl -w net.core.xfrm_acq_expires=30")


def _buffers(machine: Machine) -> Iterator[Finding]:
    for name in ("net.core.rmem_max", "net.core.wmem_max"):
        value = machine.sysctl(name)
        if not value.isdecimal() or int(value) >= BUFFER:
            continue
        if capable(CAP_NET_ADMIN):
            yield ok(f"{name} is {value}: small, but CAP_NET_ADMIN overrides it")
        else:
            why = "netlink sockets lose events when many tunnels change at once"
            yield warn(f"{name} is {value}", why, f"sysctl -w {name}={BUFFER}")


def _queue(machine: Machine, sessions: int) -> Iterator[Finding]:
    """fq_codel, the default of most distributions, costs 64 KiB for each device."""
    qdisc = machine.sysctl("net.core.default_qdisc")
    if qdisc in ("", "noqueue", "pfifo_fast"):
        yield from [ok(f"net.core.default_qdisc is {qdisc}")] if qdisc else []
        return
    text = f"net.core.default_qdisc is {qdisc}: {_QDISC_KIB} KiB for each tunnel device"
    if sessions >= MANY_DEVICES:
        why = f"{sessions * _QDISC_KIB / 1024:.0f} MiB for {sessions:,} sessions"
        yield warn(text, why, "sysctl -w net.core.default_qdisc=noqueue   # before kl2tp apply")
    else:
        yield ok(text)


def descriptors(machine: Machine, desired: Desired | None) -> Iterator[Finding]:
    """Files that may be open at once. Tunnels need none; namespaces and commands do. (For calls: `calls`.)"""
    want = FDS + FDS_PER_NAMESPACE * len(namespaces(desired) if desired else ())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = machine.number("/proc/sys/fs/nr_open")
    if hard != resource.RLIM_INFINITY and hard < want:
        why = f"kl2tp needs {want} descriptors here"
        yield fail(f"the limit of open files is {hard}", why, f"ulimit -n {want}; in kl2tp.service: LimitNOFILE={want}")
    elif most is not None and most < want:
        yield fail(f"fs.nr_open is {most}", f"kl2tp needs {want}", f"sysctl -w fs.nr_open={want}")
    else:
        limit = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard:,}"
        yield ok(f"open files: {limit} allowed, {want} needed")


def processor(machine: Machine, desired: Desired | None) -> Iterator[Finding]:
    """Whether AES and GCM are instructions here, and whether the kernel uses them."""
    if desired and (desired.tunnels or desired.calls) and not any(t.ipsec for t in desired.tunnels):
        return  # nothing is encrypted here
    cpuinfo = machine.text("/proc/cpuinfo")
    lines = [line for line in cpuinfo.splitlines() if line.lower().startswith(("flags", "features"))]
    flags = {word for line in lines[:1] for word in line.split()}
    if not flags:
        return
    aes, gcm = "aes" in flags, bool({"pclmulqdq", "pmull"} & flags)
    if not (aes and gcm):
        what = f"this processor has no instructions for {'GCM' if aes else 'AES'}"
        mend = "set ipsec: {proposal: chacha20poly1305} on both ends" if _uses_aes(desired) else ""
        yield warn(what, "AES-GCM is slow here; ChaCha20-Poly1305 is faster", mend)
    elif driver := _slow_driver(machine):
        why = "it is several times slower than the processor's own instructions"
        mend = "modprobe aesni_intel   # on ARM: modprobe -a aes_ce_blk ghash_ce"
        yield warn(f"the kernel computes AES-GCM with {driver}", why, mend)
    else:
        yield ok("AES and GCM by the processor's own instructions")


def _uses_aes(desired: Desired | None) -> bool:
    return any(t.ipsec and t.ipsec.cipher.startswith("aes") for t in desired.tunnels) if desired else True


def _slow_driver(machine: Machine) -> str:
    """The driver of AES-GCM if it is a generic one. What was never asked for is not in the list, and fine."""
    best = (-1, "")
    for block in machine.text("/proc/crypto").split("\n\n"):
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        if fields.get("name") == "rfc4106(gcm(aes))":
            best = max(best, (int(fields.get("priority") or 0), fields.get("driver", "")))
    return best[1] if "generic" in best[1] else ""
