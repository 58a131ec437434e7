"""The words of proposals that the configuration takes: strongSwan's charon knows each of them."""

from collections.abc import Iterator

from interop.conftest import Network
from interop.ike.rig.charon import Charon
from kl2tp.config import loads
from kl2tp.model import ike
from kl2tp.model.algorithms import ALGORITHMS, Algorithm, Kind

IKE, ESP = "aes256-sha256-ecp256", "aes256gcm16"
TUNNEL = "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, ipsec: {ike: {%s}}, sessions: {s: }}}"
CONNECTION = "{name} {{\n proposals = {ike}\n children {{ l2tp {{ esp_proposals = {esp}\n }} }}\n }}\n"


def known(algorithm: Algorithm) -> bool:
    """Whether it is one that strongSwan before 6.0 has."""
    return "mlkem" not in algorithm.word and not algorithm.word.startswith("ke")


def for_ike(algorithm: Algorithm) -> str:
    """A proposal for IKE with this word; empty: it is for ESP only."""
    word = algorithm.word
    return {
        Kind.ENCRYPTION: f"{word}-sha256-ecp256",
        Kind.AEAD: f"{word}-prfsha256-ecp256",
        Kind.INTEGRITY: f"aes256-{word}-prfsha256-ecp256",
        Kind.PRF: f"aes256-sha256-{word}-ecp256",
        Kind.GROUP: f"aes256-sha256-{word}",
        Kind.ESN: "",
    }[algorithm.kind]


def for_esp(algorithm: Algorithm) -> str:
    """The same for ESP; empty: it is for IKE only."""
    word = algorithm.word
    return {
        Kind.ENCRYPTION: f"{word}-sha256",
        Kind.AEAD: word,
        Kind.INTEGRITY: f"aes256-{word}",
        Kind.PRF: "",
        Kind.GROUP: f"aes256gcm16-{word}",
        Kind.ESN: f"aes256gcm16-{word}",
    }[algorithm.kind]


def proposals() -> Iterator[tuple[str, str]]:
    """Of IKE and ESP: one for each word, and all that are offered where nothing is said."""
    for algorithm in filter(known, ALGORITHMS.values()):
        yield for_ike(algorithm) or IKE, for_esp(algorithm) or ESP
    for proposal in (*ike.IKE_PROPOSALS, *ike.IKEV1_PROPOSALS, *ike.LEGACY_PROPOSALS):
        yield proposal, ESP
    for proposal in (*ike.ESP_PROPOSALS, *ike.LEGACY_ESP_PROPOSALS):
        yield IKE, proposal


def test_charon_takes_what_the_configuration_takes(network: Network) -> None:
    offered = list(dict.fromkeys(proposals()))
    for one, esp in offered:
        if not any(ALGORITHMS[word].never for word in f"{one}-{esp}".split("-")):
            weak = any(ALGORITHMS[word].weak for word in f"{one}-{esp}".split("-"))
            keys = f"psk_file: /p, proposals: {one}, esp_proposals: {esp}"
            keys += ", weak: i-accept-broken-crypto" if weak else ""
            loads(TUNNEL % keys)
    named = (CONNECTION.format(name=f"c{n}", ike=one, esp=esp) for n, (one, esp) in enumerate(offered))
    charon = Charon(
        network.add("near"), network.directory, {"swanctl/swanctl.conf": f"connections {{\n{''.join(named)}}}\n"}
    )
    try:
        charon.start()
        assert charon.swanctl("--list-conns").count("l2tp: ") == len(offered)
    finally:
        print(charon.log())
        charon.close()
