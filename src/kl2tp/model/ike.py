"""The operator's wishes for IPsec with IKE: what strongSwan is to negotiate for a tunnel, an LNS or an LAC.

Like all specs these are frozen values without secrets: keys, certificates and passwords are named by file. Times are
seconds. Proposals are in strongSwan's notation (`aes256gcm16-prfsha384-ecp384`).
"""

import enum

from kl2tp.model.spec import Mode
from kl2tp.model.value import dataclass

PSK, CERTIFICATE, EAP = "psk", "cert", "eap"
ANYBODY = "%any"
"""As `remote_id`: whoever can prove who he is."""

IKE_PROPOSALS = (
    "aes256gcm16-prfsha384-x25519-ecp384",
    "aes256gcm16-prfsha256-x25519-ecp256-modp3072-modp2048",
    "aes256-sha256-x25519-ecp256-modp3072-modp2048",
)
"""What IKEv2 offers and takes where nothing is said."""
IKEV1_PROPOSALS = (
    "aes256-sha384-ecp384",
    "aes256-sha256-ecp256",
    "aes256-sha256-modp3072",
    "aes256-sha256-modp2048",
    "aes128-sha256-ecp256",
    "aes128-sha256-modp3072",
    "aes128-sha256-modp2048",
)
"""The same for IKEv1, which has one algorithm of a kind in a proposal, and none that encrypts and authenticates."""
ESP_PROPOSALS = ("aes256gcm16", "aes256-sha256")
"""The same for ESP; for IKEv1 and for IKEv2 without perfect forward secrecy at first, RFC 7296 1.2."""
IKEV1_ESP_PROPOSALS = (*ESP_PROPOSALS, "aes128-sha256")
"""strongSwan's own default with IKEv1 is the last one alone."""

LEGACY_CLIENTS = "legacy-clients"
LEGACY_PROPOSALS = (
    *IKE_PROPOSALS,
    *IKEV1_PROPOSALS,
    "aes256-sha512-modp2048",
    "aes256-sha1-ecp384",
    "aes128-sha1-ecp256",
    "aes256-sha1-modp2048",
    "aes128-sha1-modp2048",
)
"""What the L2TP/IPsec clients of systems offer beside 3DES and MODP-1024: those of Windows 7 to 11 SHA-1 only, those of
macOS and iOS SHA-2 too. Android's (up to 11) has no group but MODP-1024, so it is not among those that are served."""
LEGACY_ESP_PROPOSALS = (*IKEV1_ESP_PROPOSALS, "aes256-sha1", "aes128-sha1")
"""The same for ESP."""


TUNNEL_REQIDS = 0x6B6C0000
"""The letters "kl". Reqids of tunnels, with static keys and with IKE, are this plus our tunnel id."""
LAC_REQIDS, LAC_REQID_BITS = 0x6B6D0000, 16
"""Reqids of calls that we place: this, and so many bits made of the name, so that they stay what they are when other
calls come and go."""
LEAST_REQID = 0x10000
"""charon numbers the clients of an LNS from 1 on: fixed reqids are not below this."""


class Initiate(enum.Enum):
    """Who begins."""

    AUTO = "auto"
    """Both ends may; the one with the lower address tries first."""
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class IkeSpec:
    """How the two ends of a tunnel, or an LNS and its clients, negotiate IPsec."""

    version: int = 2
    """Of IKE: 1 or 2; 0: both, as the peer likes."""
    auth: str = PSK
    """How we prove who we are: PSK, CERTIFICATE, or EAP (as a client only)."""
    remote_auth: str = PSK
    """How the peer proves it."""
    psk_file: str = ""
    """The pre-shared key: one line; or lines `IDENTITY KEY` for several peers, `%any` for all others. The rules and
    names of secret files are those of all others (`credential:NAME` too)."""
    certificate_files: tuple[str, ...] = ()
    """PEM: ours first, then the ones between it and the CA."""
    key_file: str = ""
    """PEM: the private key of our certificate."""
    ca_files: tuple[str, ...] = ()
    """PEM: the peer's certificate must come from one of these CAs."""
    local_id: str = ""
    """Who we are, as IKE identity; empty: our address, or the certificate's subject."""
    remote_id: str = ""
    """Who the peer must be; empty: for a tunnel with a PSK the peer's address, otherwise whoever can prove himself, as
    with ANYBODY. It may begin with `*` (`*@example.org`), and a certificate's subject may have `*` for values."""
    eap_user: str = ""
    """As EAP client: our name..."""
    eap_password_file: str = ""
    """...and the file with our password."""
    proposals: tuple[str, ...] = IKE_PROPOSALS
    esp_proposals: tuple[str, ...] = ESP_PROPOSALS
    mode: Mode = Mode.TRANSPORT
    rekey_time: int = 3600
    """Of an IPsec SA; at 110 % of it the SA is gone, whether there is a new one or not. 0: never."""
    ike_rekey_time: int = 4 * 3600
    """Of the IKE SA (IKEv2; with IKEv1 it authenticates anew). 0: never."""
    reauth_time: int = 0
    """After which both ends authenticate anew; 0: never."""
    dpd_delay: int = 30
    """Silence after which the peer is asked whether it lives; 0: never."""
    dpd_timeout: int = 120
    """With IKEv1: how long it may fail to answer. IKEv2 has its retransmissions for that."""
    encap: bool = False
    """ESP in UDP even where there is no NAT."""
    mobike: bool = True
    """IKEv2: the peer may change its address, RFC 4555."""
    aggressive: bool = False
    """IKEv1 aggressive mode."""
    initiate: Initiate = Initiate.AUTO
    """An LNS never does, an LAC always."""
    grace: int = 30
    """How long sessions wait without an IPsec SA before they end (calls) or their devices go down (tunnels)."""
    replay_window: int = 128
    """Packets."""
    reqid: int = 0
    """Ties the policies to the SAs; unique per namespace. The configuration fills it in: TUNNEL_REQIDS + our tunnel
    id (modulo 2**32), LAC_REQIDS + a number made of the call's name, or what the operator says, which is not below
    LEAST_REQID. 0 for an LNS: charon gives each client one, from 1 on."""
    offers_weak: bool = False
    """Whether weak algorithms were asked for by name, with the word that says so."""

    @property
    def secret_files(self) -> tuple[str, ...]:
        """The files that nobody else may read."""
        return tuple(filter(None, (self.psk_file, self.key_file, self.eap_password_file)))

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read for it."""
        return (*self.secret_files, *self.certificate_files, *self.ca_files)
