"""Fields of a tunnel's sessions to their specs."""

from collections.abc import Callable
from typing import Any, TypeVar

from kl2tp.config.conflicts import Claim, Claims
from kl2tp.config.draft import Draft
from kl2tp.config.fields import Broken, Fields
from kl2tp.config.interfaces import InterfaceBuilder
from kl2tp.config.problem import Bad, Mark, Problems, where
from kl2tp.config.scalar import NAME, show
from kl2tp.config.schema import TUNNEL
from kl2tp.model.spec import NO_COOKIE, CookieSpec, L2Spec, SessionSpec

T = TypeVar("T")
DERIVED = {length: CookieSpec(length) for length in (4, 8)}
Inside = dict[tuple[str, int], Claim]
"""The session ids of one tunnel: (local or peer, id)."""


class SessionBuilder:
    """Builds sessions one after the other."""

    def __init__(self, problems: Problems, claims: Claims, interface_defaults: Fields | None) -> None:
        self.problems = problems
        self.claims = claims
        self.interfaces = InterfaceBuilder(problems, claims, interface_defaults)
        self._names: dict[str, str] = {}
        self._cookies: dict[CookieSpec, CookieSpec] = {}

    def build(self, draft: Draft) -> None:
        """Fill in the sessions. Raises `Broken`."""
        named: dict[str, tuple[Fields, Mark]] = draft.fields.get("sessions", {})
        if not named:
            message = f"{draft.name}: a tunnel without sessions carries nothing"
            hint = f"e.g. sessions: {TUNNEL.keys['sessions'].eg}"
            place = draft.fields.place("sessions") if "sessions" in draft.fields.all else draft.mark
            self.problems.add(place, message, hint, "sessions")
        inside: Inside = {}
        sessions = []
        for name, (fields, mark) in named.items():
            try:
                sessions.append(self._session(draft, name, mark, fields, inside))
            except Broken:
                continue
        draft.sessions = tuple(sessions)

    def _session(self, draft: Draft, name: str, mark: Mark, fields: Fields, inside: Inside) -> SessionSpec:
        """Each part is judged even if another is wrong."""
        name = self._names.get(name) or self._name(name, mark)
        owner = f"{draft.name}/{name}"
        interface = self._attempt(self.interfaces.build, draft, owner, mark, fields)
        cookie = self._attempt(self._cookie, draft, owner, fields)
        ids = self._attempt(self._ids, draft, owner, mark, fields, inside)
        l2spec, (send, require), reorder = self._sublayer(owner, fields)
        if interface is None or cookie is None or ids is None:
            raise Broken
        return SessionSpec(name, *ids, interface, cookie, l2spec, send, require, reorder)

    @staticmethod
    def _attempt(step: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return step(*arguments)
        except Broken:
            return None

    def _name(self, name: str, mark: Mark) -> str:
        try:
            return self._names.setdefault(name, NAME.read(name))
        except Bad as bad:
            self.problems.add(mark, bad.message, bad.hint, "name")
            return show(name)

    def _ids(self, draft: Draft, owner: str, mark: Mark, fields: Fields, inside: Inside) -> tuple[int, int]:
        given: tuple[int, int] | None = fields.get("ids")
        place = mark if given is None else fields.place("ids")
        ids = draft.ids if given is None else given
        claim = (place, owner)
        for side, number in (("local", ids[0]), ("peer", ids[1])):
            first = inside.setdefault((side, number), claim)
            if first is not claim:
                what = f"the {side} session id {number} is taken by"
                self.claims.refuse(claim, first, what, "give each session of a tunnel ids of its own", side)
                raise Broken
        if given is not None or not draft.ids_taken:
            self.claims.session(draft.netns, draft.encap, ids[0], claim)
        return ids

    def _sublayer(self, owner: str, fields: Fields) -> tuple[L2Spec, tuple[bool, bool], int]:
        l2spec: L2Spec = fields.get("l2_sublayer", L2Spec.DEFAULT)
        sequencing: tuple[bool, bool] = fields.get("sequencing", (False, False))
        reorder: int = fields.get("reorder", 0)
        numbered = sequencing[0] or sequencing[1]
        if numbered and l2spec == L2Spec.NONE:
            place = where(fields.place("l2_sublayer"))
            message = f"{owner}: sequencing needs the L2-specific sublayer, which is none (at {place})"
            hint = "the sublayer carries the sequence numbers: l2_sublayer: default"
            self.problems.add(fields.place("sequencing"), message, hint, "sequencing")
            raise Broken
        if reorder and not numbered:
            message = f"{owner}: reorder needs sequencing: packets without numbers have no order"
            self.problems.add(fields.place("reorder"), message, "sequencing: both, on both ends", "reorder")
        return l2spec, sequencing, reorder

    def _cookie(self, draft: Draft, owner: str, fields: Fields) -> CookieSpec:
        cookie: Fields | None = fields.get("cookie")
        if cookie is None:
            return NO_COOKIE
        length: int | None = cookie.get("kind")
        if length is not None:
            return self._derived(draft, owner, cookie, length)
        local, peer = (self._given(owner, cookie, side) for side in ("local", "peer"))
        spec = CookieSpec(max(len(local), len(peer)), local, peer)
        return self._cookies.setdefault(spec, spec)

    def _given(self, owner: str, cookie: Fields, side: str) -> bytes:
        value: bytes | None = cookie.get(side)
        if value is None:
            message = f"{owner}: cookie has no {side}"
            self.problems.add(cookie.mark, message, "{local: HEX, peer: HEX}; none where there is no cookie", side)
            raise Broken
        return value

    def _derived(self, draft: Draft, owner: str, cookie: Fields, length: int) -> CookieSpec:
        if not length:
            return NO_COOKIE
        if not draft.keyed and not draft.secret_file:
            message = f"{owner}: there is no key from which cookies could be derived"
            hint = "name a secret_file in the tunnel, or write cookie: {local: HEX, peer: HEX}"
            if draft.protected:
                hint = "cookie: none, as IPsec keeps forged packets out; or name a secret_file in the tunnel"
            self.problems.add(cookie.mark, message, hint, "cookie")
            raise Broken
        return DERIVED[length]
