"""The part of the table of keys that is about IKE."""

from kl2tp.config import call_scalars, ike_scalars, scalar
from kl2tp.config.key import Key, section

# fmt: off

IKE = section(
    "ike",
    "What strongSwan's charon negotiates: keys that are new for each connection, and change while it lasts. Short "
    "form: auth or profile alone; the files then come from `defaults`. off: not here, where `defaults` have it.",
    Key("profile", ike_scalars.PROFILE,
        "legacy-clients: for the L2TP/IPsec clients that Windows 7 to 11, macOS and iOS bring along. Then version is "
        "any, proposals and esp_proposals have SHA-1 (with MODP-2048, ECP-256 or ECP-384) too, for Windows knows "
        "nothing better, and re-keying is left to the clients, as some drop the call if the server begins it. "
        "Android's (up to 11) knows MODP-1024 only: it needs proposals of your own, with weak. Other keys win over "
        "the profile.",
        eg="legacy-clients", default="strong", inherited=True),
    Key("version", ike_scalars.VERSION,
        "Of IKE. any: 1 and 2, as the peer likes; we begin with 2.",
        eg="any", default="2", inherited=True, fills=("IkeSpec.version",)),
    Key("auth", ike_scalars.AUTH,
        "How we prove who we are: by a pre-shared key (psk_file), a certificate (certificate_file, private_key_file), "
        "or user and password (eap; not as LNS).",
        eg="cert", default="psk", inherited=True, fills=("IkeSpec.auth",)),
    Key("remote_auth", ike_scalars.REMOTE_AUTH,
        "How the peer proves it: by the pre-shared key, or a certificate (ca_file).",
        eg="cert", default="as auth; cert with auth: eap", inherited=True, fills=("IkeSpec.remote_auth",)),
    Key("psk_file", ike_scalars.SECRET_FILE,
        "File with the pre-shared key in one line; or with lines `IDENTITY KEY` for several peers, %any for all "
        "others. Nobody else may be able to read it.",
        eg="/etc/kl2tp/ike.psk", inherited=True, fills=("IkeSpec.psk_file",)),
    Key("psk_dir", ike_scalars.PSK_DIRECTORY,
        "Directory of such files: each tunnel, profile or call takes NAME.psk from it.",
        eg="/etc/kl2tp/psk", inherited=True, fills=("IkeSpec.psk_file",)),
    Key("certificate_file", scalar.FILE,
        "Our certificate, PEM; in a list after it those between it and the CA.",
        eg="/etc/kl2tp/pki/hub.pem", inherited=True, many=True, alias="certificate_files",
        fills=("IkeSpec.certificate_files",)),
    Key("private_key_file", ike_scalars.SECRET_FILE,
        "The private key of our certificate, PEM without pass phrase.",
        eg="/etc/kl2tp/pki/hub.key", inherited=True, fills=("IkeSpec.key_file",)),
    Key("ca_file", scalar.FILE,
        "Certificates of the CAs one of which has issued the peer's, PEM.",
        eg="/etc/kl2tp/pki/ca.pem", inherited=True, many=True, alias="ca_files", fills=("IkeSpec.ca_files",)),
    Key("local_id", ike_scalars.LOCAL_ID,
        "Who we are: an address, a name, a mail address, or the subject of our certificate.",
        eg="hub.example.org", default="our address, or the certificate's subject", inherited=True,
        fills=("IkeSpec.local_id",)),
    Key("remote_id", ike_scalars.REMOTE_ID,
        "Who the peer must be. any: whoever can prove himself. With certificates it must be said, but for an LNS, as "
        "any certificate of the CA would do else. May begin with *, in quotes: \"*.example.org\".",
        eg="branch1.example.org", default="psk: a tunnel's peer's address; lns and lac: any", inherited=True,
        fills=("IkeSpec.remote_id",)),
    Key("user", call_scalars.TEXT, "auth: eap only: our name.",
        eg="branch1", inherited=True, fills=("IkeSpec.eap_user",)),
    Key("password_file", ike_scalars.SECRET_FILE, "auth: eap only: file with our password in one line.",
        eg="/etc/kl2tp/ike.password", inherited=True, fills=("IkeSpec.eap_password_file",)),
    Key("proposals", ike_scalars.IKE_PROPOSAL,
        "What protects IKE itself, the preferred first, in strongSwan's words: encryption-integrity-group, or "
        "encryption-prf-group for encryption that authenticates too (gcm, ccm, chacha20poly1305: IKEv2 only).",
        eg="[aes256gcm16-prfsha384-ecp384, aes256-sha256-modp2048]", many=True, alias="proposal",
        default="AES-256 with SHA-2; X25519, ECP, MODP of 2048 bits and more", inherited=True,
        fills=("IkeSpec.proposals",)),
    Key("esp_proposals", ike_scalars.ESP_PROPOSAL,
        "What protects the packets. With a group (aes256gcm16-ecp256) each key is exchanged anew. MTUs are reckoned "
        "with the one that costs most.",
        eg="[aes256gcm16, aes256-sha256]", many=True, alias="esp_proposal",
        default="[aes256gcm16, aes256-sha256], with IKEv1 aes128-sha256 too", inherited=True,
        fills=("IkeSpec.esp_proposals",)),
    Key("weak", ike_scalars.WEAK,
        f"3DES, DES, Blowfish, CAST, MD5, SHA-1, MODP of less than 2048 bits and their like are refused in proposals "
        f"unless {ike_scalars.WEAK_WORD} stands here. Whoever records the traffic may come to read it.",
        eg=ike_scalars.WEAK_WORD, default="no", inherited=True, fills=("IkeSpec.offers_weak",)),
    Key("initiate", ike_scalars.INITIATE,
        "Tunnels only: whether we begin. auto: both may, the end with the lower address tries first. An LNS never "
        "begins, a call that we place always.",
        eg="yes", default="auto", inherited=True, fills=("IkeSpec.initiate",)),
    Key("rekey", ike_scalars.REKEY,
        "After what time ESP gets new keys; without them the old ones end after 10 % more. never: after 4 billion "
        "packets nothing passes any more.",
        eg="8h", default="1h", inherited=True, fills=("IkeSpec.rekey_time",)),
    Key("ike_rekey", ike_scalars.IKE_REKEY,
        "After what time IKE gets new keys for itself (IKEv1: authenticates anew).",
        eg="24h", default="4h", inherited=True, fills=("IkeSpec.ike_rekey_time",)),
    Key("reauth", ike_scalars.IKE_REKEY,
        "After what time both ends prove anew who they are.",
        eg="24h", default="never", inherited=True, fills=("IkeSpec.reauth_time",)),
    Key("dpd", ike_scalars.DPD,
        "After so long without a packet from the peer it is asked whether it lives (RFC 7296 2.4, RFC 3706).",
        eg="10s", default="30s", inherited=True, fills=("IkeSpec.dpd_delay",)),
    Key("dpd_timeout", ike_scalars.DPD_TIMEOUT,
        "IKEv1 only: after so long without an answer it is taken for dead.",
        eg="60s", default="120s", inherited=True, fills=("IkeSpec.dpd_timeout",)),
    Key("grace", ike_scalars.GRACE,
        "How long sessions wait without IPsec before calls end and tunnels' interfaces go down. Nothing passes "
        "meanwhile.",
        eg="2m", default="30s", inherited=True, fills=("IkeSpec.grace",)),
    Key("nat_traversal", ike_scalars.NAT_TRAVERSAL,
        "auto: ESP in UDP where there is a NAT; always: everywhere, for firewalls that drop ESP.",
        eg="always", default="auto", inherited=True, fills=("IkeSpec.encap",)),
    Key("mobike", scalar.BOOLEAN,
        "IKEv2 and LNS only: whether clients may change their address (RFC 4555). strongSwan tells each of them of "
        "every address that comes or goes here, those of calls too: charon.interfaces_use = eth0 confines it.",
        eg="false", default="true", inherited=True, fills=("IkeSpec.mobike",)),
    Key("aggressive", scalar.BOOLEAN,
        "IKEv1 only: aggressive mode. Dangerous with a PSK: whoever hears it, or asks an LNS, can try passwords at "
        "home until one fits. Only for peers that know nothing else, with a long random key.",
        eg="true", default="false", inherited=True, fills=("IkeSpec.aggressive",)),
    short=Key("short", ike_scalars.SHORT, "auth or profile."),
)

_WINDOW = Key(
    "replay_window", scalar.WINDOW, "Packets that may overtake each other. 0 checks nothing.",
    eg="1024", default="128", fills=("IkeSpec.replay_window",),
)
_OFF = Key("off", scalar.OFF, "No protection.")

LNS_IPSEC = section(
    "lns ipsec",
    "Protection of calls that come in: L2TP is taken only from inside IPsec, whatever else arrives is dropped. "
    "Profiles that listen at one address agree about it. Short form: off.",
    Key("ike", None, "The keys are negotiated.",
        eg="{psk_file: /etc/kl2tp/ike.psk}", section=IKE, fills=("LnsSpec.ike",)),
    _WINDOW,
    short=_OFF,
)

LAC_IPSEC = section(
    "lac ipsec", "Protection of a call that we place: no packet of it leaves or enters in clear. Short form: off.",
    Key("ike", None, "The keys are negotiated.",
        eg="{psk_file: /etc/kl2tp/ike.psk}", section=IKE, fills=("LacSpec.ike",)),
    Key("reqid", scalar.REQID, "The number that ties policies to their SAs.",
        eg="0x70001", default="made of the call's name, from 0x6b6d0000 on", fills=("IkeSpec.reqid",)),
    _WINDOW,
    short=_OFF,
)

# fmt: on
