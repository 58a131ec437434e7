"""Fields of `ike` to its spec, for tunnels, LNS profiles and calls that we place."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from kl2tp.config.fields import Broken, Fields
from kl2tp.config.ike_scalars import WEAK_WORD
from kl2tp.config.problem import Mark, Problems, where
from kl2tp.config.scalar import show
from kl2tp.model import algorithms
from kl2tp.model import ike as model
from kl2tp.model.algorithms import SHA1, Algorithm, Kind
from kl2tp.model.ike import CERTIFICATE, EAP, LEGACY_CLIENTS, LEGACY_PROPOSALS, PSK, IkeSpec, Initiate
from kl2tp.model.spec import Mode

IKEV1, IKEV2, BOTH = 1, 2, 0
"""`IkeSpec.version`."""
MAX_PROPOSALS = 100
"""Of IKEv1, whose proposals are every combination of the words."""
PSK_SOURCES = ("psk_file", "psk_dir")
_NEEDED_BY = {
    **dict.fromkeys((*PSK_SOURCES,), ("auth: psk", PSK)),
    **dict.fromkeys(("certificate_file", "private_key_file"), ("auth: cert", CERTIFICATE)),
    **dict.fromkeys(("user", "password_file"), ("auth: eap", EAP)),
    "ca_file": ("remote_auth: cert", CERTIFICATE),
}
"""What must hold for a key to mean something."""
_OF_VERSION = {"mobike": (IKEV1, "IKEv2"), "dpd_timeout": (IKEV2, "IKEv1"), "aggressive": (IKEV2, "IKEv1")}
"""Keys that mean nothing with one version, and the version that has them."""


class For(enum.Enum):
    """Whose IKE it is."""

    TUNNEL = "tunnel"
    LNS = "lns"
    LAC = "lac"


def wanted(ipsec: Fields | None) -> Fields | None:
    """The fields of `ike` where there is one that is not switched off. Raises `Broken`."""
    ike: Fields | None = None if ipsec is None else ipsec.get("ike")
    if ike is None or ("short" in ike.own and ike.get("short")[0] == "off"):
        return None
    return ike


class IkeBuilder:
    """Builds specs one after the other. What many tunnels have in common is judged once."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self._last: tuple[Fields | None, For, IkeSpec] = (None, For.TUNNEL, IkeSpec())

    def build(self, name: str, whose: For, ipsec: Fields, ike: Fields, reqid: int = 0) -> IkeSpec:
        """The spec of the tunnel, profile or call `name`; `ike` is `wanted(ipsec)`. Raises `Broken`."""
        fields, kind, spec = self._last
        if ike is not fields or kind is not whose:
            spec = _Reading(self.problems, name, whose, ike).spec()
            self._last = (ike, whose, spec)
        window: int = ipsec.get("replay_window", spec.replay_window)
        if not window and any("esn" in proposal.split("-") for proposal in spec.esp_proposals):
            message = f"{name}: esn in esp_proposals needs a replay window"
            self.problems.add(ipsec.place("replay_window"), message, "replay_window: 128, or leave it out", "esn")
        mode: Mode = ipsec.get("mode", Mode.TRANSPORT) if whose is For.TUNNEL else Mode.TRANSPORT
        psk = f"{spec.psk_file}{name}.psk" if spec.psk_file.endswith("/") else spec.psk_file
        return replace(spec, mode=mode, replay_window=window, reqid=reqid, psk_file=psk)


class _Reading:
    """The fields of one `ike`, on the way to a spec. Its `psk_file` ends with a slash if it is a directory."""

    def __init__(self, problems: Problems, name: str, whose: For, ike: Fields) -> None:
        self.problems = problems
        self.name = name
        self.whose = whose
        self.ike = ike
        if ike.broken:
            raise Broken
        self.legacy = self._chosen("profile", "") == LEGACY_CLIENTS
        self.version: int = ike.get("version", BOTH if self.legacy else IKEV2)
        self.auth: str = self._chosen("auth", PSK)
        self.remote_auth: str = ike.get("remote_auth", CERTIFICATE if self.auth == EAP else self.auth)
        self.wrong = False

    def spec(self) -> IkeSpec:
        """All of it, if nothing is wrong. Raises `Broken`."""
        for judge in (self._version, self._proof, self._both_prove, self._files, self._identity, self._times):
            judge()
        proposals, esp = self._proposals("proposals"), self._proposals("esp_proposals")
        self._weak((*proposals, *esp))
        psk_file = self._psk_file() if PSK in (self.auth, self.remote_auth) else ""
        initiate = self._initiate()
        if self.wrong:
            raise Broken
        get, never = self.ike.get, 0 if self.legacy else None
        default = IkeSpec()
        return IkeSpec(
            version=self.version,
            auth=self.auth,
            remote_auth=self.remote_auth,
            psk_file=psk_file,
            certificate_files=self._list("certificate_file", self.auth == CERTIFICATE),
            key_file=get("private_key_file", "") if self.auth == CERTIFICATE else "",
            ca_files=self._list("ca_file", self.remote_auth == CERTIFICATE),
            local_id=get("local_id", ""),
            remote_id=get("remote_id", ""),
            eap_user=get("user", "") if self.auth == EAP else "",
            eap_password_file=get("password_file", "") if self.auth == EAP else "",
            proposals=proposals,
            esp_proposals=esp,
            rekey_time=get("rekey", default.rekey_time if never is None else never),
            ike_rekey_time=get("ike_rekey", default.ike_rekey_time if never is None else never),
            reauth_time=get("reauth", default.reauth_time),
            dpd_delay=get("dpd", default.dpd_delay),
            dpd_timeout=get("dpd_timeout", self._dpd_timeout()),
            encap=get("nat_traversal", default.encap),
            mobike=get("mobike", default.mobike) and self.version != IKEV1,
            aggressive=get("aggressive", default.aggressive) and self.version != IKEV2,
            initiate=initiate,
            grace=get("grace", default.grace),
            offers_weak=get("weak", default.offers_weak) and any(map(self._is_weak, (*proposals, *esp))),
        )

    # reading

    def refuse(self, place: Mark, message: str, hint: str, kind: str) -> None:
        """Report a problem, after which there is no spec."""
        self.wrong = True
        self.problems.add(place, message, hint, kind)

    def _chosen(self, key: str, default: str) -> str:
        """The value of a key that the short form may have too; what is our own wins over what is inherited."""
        for table in (self.ike.own, self.ike.all):
            if key in table:
                return str(self.ike.get(key))
            if "short" in table and self.ike.get("short")[0] == key:
                return str(self.ike.get("short")[1])
        return default

    def _list(self, key: str, used: bool) -> tuple[str, ...]:
        items: list[tuple[str, Mark]] = self.ike.get(key, []) if used else []
        return tuple(dict.fromkeys(value for value, _ in items))

    # how both ends prove who they are

    def _version(self) -> None:
        for key, (version, other) in _OF_VERSION.items():
            if key in self.ike.own and self.version == version and self.ike.get(key):
                message = f"{self.name}: {key} is a matter of {other}, and version is {version}"
                self.refuse(self.ike.place(key), message, f"remove {key}", key)

    def _proof(self) -> None:
        place = self.ike.place("auth" if "auth" in self.ike.all else "short")
        if self.auth == EAP and self.whose is For.LNS:
            message = f"{self.name}: auth: eap is for the end that calls"
            self.refuse(place, message, "an LNS proves itself by psk or cert; users log in by PPP", "eap")
        elif self.auth == EAP and self.version == IKEV1:
            message = f"{self.name}: auth: eap needs IKEv2, and version is 1"
            self.refuse(place, message, "version: 2", "eap")
        elif self.auth == EAP and self.remote_auth != CERTIFICATE:
            message = f"{self.name}: with auth: eap the peer must prove itself by a certificate (RFC 7296 2.16)"
            self.refuse(self.ike.place("remote_auth"), message, "remote_auth: cert, and ca_file", "eap")

    def _both_prove(self) -> None:
        """IKEv1 knows one way for both ends, RFC 2409 5."""
        if EAP != self.auth != self.remote_auth and self.version != IKEV2:
            message = f"{self.name}: auth: {self.auth} and remote_auth: {self.remote_auth} need version: 2"
            self.refuse(self.ike.place("remote_auth"), message, "in IKEv1 both ends prove themselves alike", "remote")

    def _files(self) -> None:
        """What is needed is there, and what is not is not said."""
        for key, (when, how) in _NEEDED_BY.items():
            used = how == self.remote_auth if key == "ca_file" else how == self.auth
            used = used or (key in PSK_SOURCES and self.remote_auth == PSK)
            if used and key not in PSK_SOURCES and not self.ike.get(key):
                message = f"{self.name}: {when} needs a {key}"
                self.refuse(self.ike.mark, message, _example(key), key)
            elif not used and key in self.ike.own:
                message = f"{self.name}: {key} means nothing with {self._proofs()}"
                self.refuse(self.ike.place(key), message, f"remove it, or set {when}", key)

    def _proofs(self) -> str:
        alike = self.auth == self.remote_auth
        return f"auth: {self.auth}" + ("" if alike else f" and remote_auth: {self.remote_auth}")

    def _psk_file(self) -> str:
        """Where the pre-shared key is; our own choice wins over that in `defaults`."""
        for table in (self.ike.own, self.ike.all):
            named = [key for key in PSK_SOURCES if key in table]
            if len(named) == 2:
                message = f"{self.name}: psk_file and psk_dir both say where the key is"
                self.refuse(self.ike.place(named[1]), message, "keep one of them", "psk")
            if named:
                value: str = self.ike.get(named[0])
                return value if named[0] == "psk_file" else f"{value.rstrip('/')}/"
        self.refuse(self.ike.mark, f"{self.name}: auth: psk needs a psk_file", _example("psk_file"), "psk")
        return ""

    def _identity(self) -> None:
        if self.remote_auth == CERTIFICATE and self.whose is not For.LNS and not self.ike.get("remote_id"):
            message = f"{self.name}: any certificate of the CA would do for the peer's"
            hint = "remote_id: branch1.example.org, as its certificate has it; or remote_id: any, if that is meant"
            self.refuse(self.ike.mark, message, hint, "remote_id")

    # how long, and who begins

    def _times(self) -> None:
        ike = self.ike
        delay: int = ike.get("dpd", IkeSpec().dpd_delay)
        timeout: int = ike.get("dpd_timeout", self._dpd_timeout())
        if self.version != IKEV2 and delay and timeout <= delay:
            message = (
                f"{self.name}: a dpd_timeout of {timeout} s is not over dpd, {delay} s (at {where(ike.place('dpd'))})"
            )
            self.refuse(ike.place("dpd_timeout"), message, "it is several times dpd", "dpd_timeout")

    def _dpd_timeout(self) -> int:
        """Where nothing is said: time enough for several questions."""
        delay: int = self.ike.get("dpd", IkeSpec().dpd_delay)
        return max(IkeSpec().dpd_timeout, 4 * delay)

    def _initiate(self) -> Initiate:
        given: Initiate | None = self.ike.get("initiate")
        if self.whose is not For.TUNNEL:
            always = Initiate.YES if self.whose is For.LAC else Initiate.NO
            if "initiate" in self.ike.own and given is not always:
                what = "an LNS never begins" if self.whose is For.LNS else "a call that we place always begins"
                self.refuse(self.ike.place("initiate"), f"{self.name}: {what}", "remove initiate", "initiate")
            return always
        if self.auth == EAP:
            if given is Initiate.NO:
                message = f"{self.name}: with auth: eap it is us who begin"
                self.refuse(self.ike.place("initiate"), message, "initiate: yes", "initiate")
            return Initiate.YES
        return given or Initiate.AUTO

    # proposals

    def _proposals(self, key: str) -> tuple[str, ...]:
        """What is offered and taken: each is something that protects, or asked for in spite of that."""
        given: list[tuple[str, Mark]] | None = self.ike.get(key)
        if given is None:
            return self._default(key)
        for proposal, place in given:
            self._judge(key, proposal, place)
        proposals = [proposal for proposal, _ in given]
        return tuple(dict.fromkeys(self._single(key, proposals) if self.version == IKEV1 else proposals))

    def _default(self, key: str) -> tuple[str, ...]:
        esp = key == "esp_proposals"
        if self.legacy:
            legacy = model.LEGACY_ESP_PROPOSALS if esp else LEGACY_PROPOSALS
            return tuple([one for one in legacy if esp or self.version != IKEV1 or not _aead(one)])
        if self.version == IKEV2:
            return model.ESP_PROPOSALS if esp else model.IKE_PROPOSALS
        if esp:
            return model.IKEV1_ESP_PROPOSALS
        return model.IKEV1_PROPOSALS if self.version == IKEV1 else (*model.IKE_PROPOSALS, *model.IKEV1_PROPOSALS)

    def _judge(self, key: str, proposal: str, place: Mark) -> None:
        words = algorithms.parse(proposal)
        for one in () if self.ike.get("weak") else words:
            if one.weak and not (self.legacy and one.word in SHA1):
                message = f"{key}: {show(proposal)} is refused: {one.word}: {one.weak}"
                self.refuse(place, message, f"if the peer can do nothing better: weak: {WEAK_WORD}", "weak")
                return
        if self.version == IKEV1 and key == "proposals":
            self._judge_ikev1(proposal, words, place)

    def _judge_ikev1(self, proposal: str, words: Iterable[Algorithm], place: Mark) -> None:
        for one in words:
            if one.kind is Kind.AEAD or one.word.startswith("ke"):
                message = f"proposals: {show(proposal)}: {one.word} needs IKEv2, and version is 1"
                self.refuse(place, message, "e.g. aes256-sha256-modp2048; ESP may have it", "ikev1")
                return

    def _single(self, key: str, proposals: Iterable[str]) -> list[str]:
        """One algorithm of a kind in each, as IKEv1 has it: of more, charon offers the first only."""
        found = [one for proposal in proposals for one in _combinations(algorithms.parse(proposal))]
        if len(found) > MAX_PROPOSALS:
            message = f"{key}: {len(found)} combinations are too many for IKEv1"
            self.refuse(self.ike.place(key), message, f"leave out words: {MAX_PROPOSALS} are possible", key)
        return found

    def _weak(self, proposals: tuple[str, ...]) -> None:
        """Whoever says that he accepts it has some."""
        if "weak" in self.ike.own and self.ike.get("weak") and not any(map(self._is_weak, proposals)):
            message = f"{self.name}: weak: {WEAK_WORD}, but nothing weak is offered"
            self.refuse(self.ike.place("weak"), message, "remove weak", "weak")

    def _is_weak(self, proposal: str) -> bool:
        return any(one.weak for one in algorithms.parse(proposal))


def _aead(proposal: str) -> bool:
    return any(one.kind is Kind.AEAD for one in algorithms.parse(proposal))


def _combinations(words: tuple[Algorithm, ...]) -> Iterator[str]:
    """Every proposal that takes one of each kind."""
    kinds = list(dict.fromkeys(one.kind for one in words))
    for choice in product(*(algorithms.of_kind(words, kind) for kind in kinds)):
        yield "-".join(one.word for one in choice)


def _example(key: str) -> str:
    examples: dict[str, Any] = {
        "psk_file": "/etc/kl2tp/ike.psk",
        "certificate_file": "/etc/kl2tp/pki/hub.pem",
        "private_key_file": "/etc/kl2tp/pki/hub.key",
        "ca_file": "/etc/kl2tp/pki/ca.pem",
        "user": "branch1",
        "password_file": "/etc/kl2tp/ike.password",
    }
    return f"{key}: {examples[key]}"
