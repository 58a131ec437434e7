"""What peers say to be let in, and the files that say who may be: any bytes, on both ends of every method."""

import contextlib
from collections.abc import Callable, Iterator

from kl2tp.access import secrets
from kl2tp.access.chapsecrets import Reader as ChapSecrets
from kl2tp.access.user import User
from kl2tp.access.yamlusers import Reader as YamlUsers
from kl2tp.config.problem import Problems
from kl2tp.model.calls import CHAP, EAP_MD5, EAP_MSCHAPV2, MSCHAPV2, PAP
from kl2tp.model.objects import Secret
from kl2tp.ppp.auth import Authenticator, Supplicant, eap, make_authenticator, make_supplicant, mschap, packet, pap
from kl2tp.wire.errors import ProtocolError

OFFERS = {"pap": (PAP,), "chap": (CHAP,), "mschapv2": (MSCHAPV2,), "eap": (EAP_MSCHAPV2, EAP_MD5)}
DECODERS: dict[str, Callable[[bytes], object]] = {
    "auth.packet": packet.decode,
    "auth.value": packet.unpack_value,
    "auth.pap_request": pap.decode_request,
    "auth.pap_message": pap.decode_message,
    "auth.eap": eap.decode_typed,
    "auth.eap_mschap": eap.decode_mschap,
    "auth.mschap_refusal": mschap.refusal,
}
"""They raise ProtocolError and nothing else."""


def _known(length: int) -> bytes:
    """What is random otherwise: so identifiers can be hit upon."""
    return b"\6" * length


def _decoder(decode: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with contextlib.suppress(ProtocolError):
            decode(data)

    return target


def _packets(data: bytes) -> Iterator[bytes]:
    """Packets, each behind a byte that tells its length."""
    while data:
        end = 1 + data[0]
        yield data[1:end]
        data = data[end:]


def _machine(make: Callable[[], Authenticator | Supplicant]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        machine = make()
        machine.start(0.0)
        for now, information in enumerate(_packets(data)):
            machine.receive(information, now * 0.5)
            machine.handle_timer(now * 0.5)
            assert all(len(frame) == int.from_bytes(frame[2:4]) for frame in machine.take_frames())

    return target


def _lines(data: bytes) -> None:
    def add(user: User) -> bool:
        user.permits(user.fixed(7), 7)
        return True

    ChapSecrets(Problems(), add).read("fuzz", data.replace(b"@/", b"@"))


def _yaml(data: bytes) -> None:
    YamlUsers(Problems(), lambda user: True).read("fuzz", data.replace(b"secret_file", b"secret_fil_"))


def _tunnel_secrets(data: bytes) -> None:
    secrets.parse("fuzz", data, Problems())


TARGETS: dict[str, Callable[[bytes], None]] = {
    **{name: _decoder(decode) for name, decode in DECODERS.items()},
    **{
        f"auth.{name}.authenticator": _machine(lambda offer=offer: make_authenticator(offer, "lns", _known))  # type: ignore[misc]
        for name, offer in OFFERS.items()
    },
    **{
        f"auth.{name}.supplicant": _machine(
            lambda offer=offer: make_supplicant(offer, "alice", Secret(b"hush"), _known)  # type: ignore[misc]
        )
        for name, offer in OFFERS.items()
    },
    "access.chapsecrets": _lines,
    "access.yaml": _yaml,
    "access.secrets": _tunnel_secrets,
}
"""Each raises nothing, whatever it is given."""


def seeds() -> Iterator[bytes]:
    """Conversations, and files."""
    for offer in OFFERS.values():
        for packets in _conversation(offer):
            yield b"".join(bytes((len(frame),)) + frame for frame in packets)
            yield from packets
    yield b"# c s secret\nalice * 'pass \\x41' 10.0.0.1 !10.0.0.0/24 10.9.0.0/16+ -\n* lns \"b\" *\n"
    yield b'alice: {secret: "x", address: 10.0.0.1, prefix6: 2001:db8::/64, routes: [10.0.0.0/8], limit: 2}\n'
    yield b"us them a secret # comment\n* * other\n"


def _conversation(offer: tuple[str, ...]) -> tuple[list[bytes], list[bytes]]:
    """What each side gets to hear when all goes well."""
    demands = make_authenticator(offer, "lns", _known)
    answers = make_supplicant(offer, "alice", Secret(b"hush"), _known)
    demands.start(0.0)
    answers.start(0.0)
    heard: tuple[list[bytes], list[bytes]] = ([], [])
    for _ in range(6):
        for side, other, hears in ((demands, answers, heard[1]), (answers, demands, heard[0])):
            for frame in side.take_frames():
                other.receive(frame, 0.0)
                hears.append(frame)
        if demands.attempt is not None:
            demands.verdict(demands.attempt.verify(b"hush"), "", 0.0)
    return heard
