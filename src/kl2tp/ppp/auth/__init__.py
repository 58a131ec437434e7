"""Ways to authenticate in PPP: PAP, CHAP with MD5, MS-CHAPv2, and EAP with the latter two as its methods."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from kl2tp.model.calls import CHAP, EAP_MD5, EAP_MSCHAPV2, MSCHAPV2, PAP
from kl2tp.model.objects import Secret
from kl2tp.ppp.auth import hashes
from kl2tp.ppp.auth.chap import ChapAuthenticator, ChapSupplicant
from kl2tp.ppp.auth.eap import EapAuthenticator
from kl2tp.ppp.auth.eap_peer import EapSupplicant
from kl2tp.ppp.auth.machine import TIMEOUT, TRIES, Random
from kl2tp.ppp.auth.mschap import MschapAuthenticator, MschapSupplicant
from kl2tp.ppp.auth.pap import PapAuthenticator, PapSupplicant
from kl2tp.ppp.auth.protocol import Authenticator, Supplicant

__all__ = ["PROTOCOLS", "Authenticator", "Offer", "Supplicant", "load", "make_authenticator", "make_supplicant"]


class Offer(NamedTuple):
    """How a method is agreed on and spoken. Methods of EAP share one offer: EAP itself decides among them."""

    option: bytes
    """Value of LCP's option Authentication-Protocol."""
    protocol: int
    """PPP protocol number of its packets."""


PROTOCOLS: Mapping[str, Offer] = {
    PAP: Offer(b"\xc0\x23", 0xC023),
    CHAP: Offer(b"\xc2\x23\x05", 0xC223),
    MSCHAPV2: Offer(b"\xc2\x23\x81", 0xC223),
    EAP_MD5: Offer(b"\xc2\x27", 0xC227),
    EAP_MSCHAPV2: Offer(b"\xc2\x27", 0xC227),
}


def load(methods: Collection[str]) -> None:
    """Load what these methods need, before the first peer has to wait for it."""
    if MSCHAPV2 in methods or EAP_MSCHAPV2 in methods:
        hashes.load()


def make_authenticator(
    methods: Sequence[str],
    name: str,
    random: Random,
    *,
    tries: int = TRIES,
    timeout: float = TIMEOUT,
    interval: float = 0.0,
) -> Authenticator:
    """The side that demands one of these methods, all of which have the same offer, the best first.

    `name` is ours. What is not answered is sent `tries` times, `timeout` seconds apart. With an `interval`, the peer is
    challenged again so many seconds after each success (not with PAP, which has no way to ask).
    """
    if methods[0] == PAP:
        return PapAuthenticator(tries, timeout)
    if methods[0] in (EAP_MD5, EAP_MSCHAPV2):
        return EapAuthenticator(methods, name, random, tries=tries, timeout=timeout, interval=interval)
    kind = MschapAuthenticator if methods[0] == MSCHAPV2 else ChapAuthenticator
    return kind(name, random, tries=tries, timeout=timeout, interval=interval)


def make_supplicant(
    methods: Sequence[str],
    name: str,
    secret: Secret,
    random: Random,
    *,
    tries: int = TRIES,
    timeout: float = TIMEOUT,
) -> Supplicant:
    """The side that answers to one of these methods, all of which have the same offer, the best first.

    Raises ValueError if name or secret are too long for them.
    """
    if methods[0] == PAP:
        return PapSupplicant(name, secret, tries, timeout)
    if methods[0] in (EAP_MD5, EAP_MSCHAPV2):
        return EapSupplicant(methods, name, secret, random, tries=tries, timeout=timeout)
    kind = MschapSupplicant if methods[0] == MSCHAPV2 else ChapSupplicant
    return kind(name, secret, random, tries=tries, timeout=timeout)
