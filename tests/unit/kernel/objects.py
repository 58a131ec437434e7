"""Hypothesis strategies for kernel objects, as a valid configuration may ask for them."""

from hypothesis import strategies as st

from kl2tp.model.ciphers import CIPHERS, Cipher
from kl2tp.model.objects import (
    Address,
    Binding,
    Clamp,
    Direction,
    Guard,
    GuardedPlace,
    Link,
    Policy,
    Route,
    Sa,
    Secret,
    Selector,
    Session,
    Template,
    Tunnel,
)
from kl2tp.model.spec import Encap, L2Spec, Mode

ids = st.integers(1, 2**32 - 1)
ports = st.integers(1, 65535)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/:"), min_size=1, max_size=15)
ipv4 = st.binary(min_size=4, max_size=4).filter(any)
ipv6 = st.binary(min_size=16, max_size=16).filter(any)
addresses = st.one_of(ipv4, ipv6)
pairs = st.one_of(st.tuples(ipv4, ipv4), st.tuples(ipv6, ipv6))
cookies = st.one_of(st.just(b""), st.binary(min_size=4, max_size=4), st.binary(min_size=8, max_size=8))
marks = st.one_of(st.none(), st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1)))


@st.composite
def tunnels(draw: st.DrawFn) -> Tunnel:
    """Over IP or UDP, IPv4 or IPv6."""
    local, remote = draw(pairs)
    encap = draw(st.sampled_from(Encap))
    udp = encap == Encap.UDP
    numbers = (draw(ports), draw(ports)) if udp else (0, 0)
    return Tunnel("", draw(ids), draw(ids), encap, local, remote, *numbers, draw(st.booleans()) if udp else True)


sessions = st.builds(
    Session,
    st.just(""),
    ids,
    ids,
    ids,
    names,
    cookies,
    cookies,
    st.sampled_from(L2Spec),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**6),
)
links = st.builds(
    Link,
    st.just(""),
    names,
    st.integers(68, 65535),
    up=st.booleans(),
    mac=st.one_of(st.just(b""), st.binary(min_size=6, max_size=6)),
    alias=st.text("abc:/0123", max_size=40),
)


@st.composite
def interface_addresses(draw: st.DrawFn) -> Address:
    """An address with a prefix length of its family, perhaps of a point-to-point device."""
    address, peer = draw(pairs.filter(lambda pair: pair[0] != pair[1]))
    return Address("", draw(names), address, draw(st.integers(0, len(address) * 8)), draw(st.sampled_from((b"", peer))))


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """To a gateway, into a device, or both."""
    destination, via = draw(pairs)
    table = draw(st.one_of(st.just(254), st.integers(1, 2**32 - 1)))
    plen = draw(st.integers(0, len(destination) * 8))
    device = draw(st.sampled_from(("", "dev7")))
    return Route(
        "", table, destination, plen, draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from((b"", via))), device
    )


@st.composite
def sas(draw: st.DrawFn) -> Sa:
    """With any cipher and any option."""
    source, destination = draw(pairs)
    cipher: Cipher = draw(st.sampled_from(list(CIPHERS.values())))
    esn = draw(st.booleans())
    integrity = Secret(draw(st.binary(min_size=cipher.integrity_key, max_size=cipher.integrity_key)))
    nat = draw(st.one_of(st.just((0, 0)), st.tuples(ports, ports)))
    return Sa(
        "",
        source,
        destination,
        draw(st.integers(256, 2**32 - 1)),
        draw(st.sampled_from(Mode)),
        draw(ids),
        cipher.kernel_encryption,
        Secret(draw(st.binary(min_size=cipher.key, max_size=cipher.key))),
        cipher.aead,
        cipher.icv,
        cipher.kernel_integrity,
        None if cipher.aead else integrity,
        draw(st.sampled_from((32, 64, 4096)) if esn else st.sampled_from((0, 1, 32, 33, 4096))),
        esn,
        *nat,
        draw(marks),
        draw(st.sampled_from(("", "dev7"))),
        outbound=draw(st.booleans()),
    )


@st.composite
def selectors(draw: st.DrawFn) -> Selector:
    """Of packets over IP or UDP, from one host or from anywhere."""
    source, destination = draw(pairs)
    bits = len(source) * 8
    udp = draw(st.booleans())
    numbers = (draw(st.one_of(st.just(0), ports)), draw(st.one_of(st.just(0), ports))) if udp else (0, 0)
    anywhere = draw(st.booleans())
    if anywhere:
        return Selector(bytes(len(source)), 0, destination, bits, 17 if udp else 115, *numbers)
    return Selector(source, bits, destination, bits, 17 if udp else 115, *numbers)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Blocking or demanding an SA, in transport or tunnel mode."""
    selector = draw(selectors())
    length = len(selector.source)
    ends = st.binary(min_size=length, max_size=length).filter(any)
    transport = st.builds(Template, ids, st.just(Mode.TRANSPORT), spi=st.integers(0, 2**32 - 1))
    tunnel = st.builds(Template, ids, st.just(Mode.TUNNEL), ends, ends, st.integers(0, 2**32 - 1))
    return Policy(
        "",
        draw(st.sampled_from(Direction)),
        selector,
        draw(st.integers(0, 2**32 - 1)),
        draw(st.one_of(st.none(), transport, tunnel)),
        draw(marks),
        draw(st.sampled_from(("", "dev7"))),
    )


guards = st.one_of(
    st.builds(Guard, st.just(""), addresses),
    st.builds(Guard, st.just(""), addresses, st.one_of(st.just(0), ports), ports),
)


@st.composite
def mark_ranges(draw: st.DrawFn) -> tuple[int, int]:
    """A base, and below it a mask."""
    bits = draw(st.integers(0, 31))
    return draw(st.integers(0, 2 ** (32 - bits) - 1)) << bits, (1 << bits) - 1


guarded_places = st.builds(
    GuardedPlace, st.just(""), st.one_of(addresses, st.sampled_from((bytes(4), bytes(16)))), ports, mark_ranges()
)
bindings = st.builds(Binding, st.just(""), st.integers(1, 65535), ids)
clamps = st.builds(Clamp, st.just(""), names, ports, ports)


def index(name: str) -> int:
    """The number of a device in these tests: devN has N."""
    return int(name.removeprefix("dev"))


def name(number: int) -> str:
    """The inverse of `index`."""
    return f"dev{number}"
