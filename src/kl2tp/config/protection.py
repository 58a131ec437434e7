"""Fields of `ipsec` to its spec."""

from typing import NoReturn, TypeAlias

from kl2tp.config.conflicts import Claims
from kl2tp.config.draft import Draft
from kl2tp.config.fields import Broken, Fields
from kl2tp.config.ike import For, IkeBuilder, wanted
from kl2tp.config.problem import Problems, where
from kl2tp.model import ciphers
from kl2tp.model.ike import LEAST_REQID, TUNNEL_REQIDS
from kl2tp.model.spec import IpsecSpec, Mode

ESN_WINDOW = 64
"""Packets: the replay window of a tunnel with ESN that names none."""
KEY_SOURCES = ("key_file", "key_dir", "credential")
WITH_IKE = ("ike", "mode", "reqid", "replay_window", "off")
"""Keys of `ipsec` that are not about static keys alone."""

Rest: TypeAlias = tuple[bool, int, int, int, tuple[int, int] | None, str, bool, str, int]
"""`IpsecSpec` from `esn` on."""


class ProtectionBuilder:
    """Builds the protection of tunnels one after the other."""

    def __init__(self, problems: Problems, claims: Claims, defaults: Fields | None) -> None:
        self.problems = problems
        self.claims = claims
        self.defaults = defaults
        self.ike = IkeBuilder(problems)
        self._default_rest: Rest | None = None

    def build(self, draft: Draft) -> None:
        """Fill in whether and how the tunnel is protected. Raises `Broken`."""
        draft.ipsec = draft.ike = None
        ipsec: Fields | None = draft.fields.get("ipsec")
        if ipsec is None or "off" in ipsec.own:
            draft.protected = draft.keyed = False
            return
        draft.protected = True
        ike = self._negotiated(draft, ipsec)
        draft.keyed = ike is None
        if ike is not None:
            draft.ike = self.ike.build(draft.name, For.TUNNEL, ipsec, ike, self._reqid(draft, ipsec, LEAST_REQID))
            return
        key_file = self._key_file(draft, ipsec)
        if ipsec is self.defaults:
            rest = self._default_rest = self._default_rest or self._rest(draft, ipsec)
        else:
            rest = self._rest(draft, ipsec)
        cipher: str = ipsec.get("proposal", ciphers.DEFAULT)
        mode: Mode = ipsec.get("mode", Mode.TRANSPORT)
        draft.ipsec = IpsecSpec(cipher, key_file, mode, self._reqid(draft, ipsec), *rest)

    def _negotiated(self, draft: Draft, ipsec: Fields) -> Fields | None:
        """The fields of `ike`, if it is IKE that protects the tunnel: what is its own decides. Raises `Broken`."""
        ike = wanted(ipsec)
        if ike is None:
            return None
        static = [key for key in ipsec.own if key not in WITH_IKE]
        if "ike" not in ipsec.own and not set(KEY_SOURCES).isdisjoint(static):
            return None
        if static:
            self._both(draft, ipsec, static[0])
        if "ike" not in ipsec.own and not set(KEY_SOURCES).isdisjoint(ipsec.all):
            self._undecided(draft, ipsec)
        self._outside(draft)
        return ike

    def _both(self, draft: Draft, ipsec: Fields, static: str) -> NoReturn:
        message = f"{draft.name}: {static} is for static keys, but ike (at {where(ipsec.place('ike'))}) negotiates"
        self.problems.add(ipsec.place(static), message, f"keep one of them: ike or {static}", "ike")
        raise Broken

    def _undecided(self, draft: Draft, ipsec: Fields) -> NoReturn:
        """The defaults have both, the tunnel chooses none."""
        key = next(key for key in KEY_SOURCES if key in ipsec.all)
        message = f"{draft.name}: the defaults have both ike and {key} (at {where(ipsec.place(key))})"
        self.problems.add(ipsec.place("ike"), message, "say in the tunnel which: ike: psk, or ike: off", "ike")
        raise Broken

    def _outside(self, draft: Draft) -> None:
        """charon serves one network namespace: the one that it runs in, as we do."""
        if draft.netns:
            message = f"{draft.name}: ike is possible in the daemon's own namespace only, and netns is {draft.netns!r}"
            hint = "use static keys, or run charon and kl2tp inside that namespace"
            self.problems.add(draft.fields.place("netns"), message, hint, "netns")
            raise Broken

    def _rest(self, draft: Draft, ipsec: Fields) -> Rest:
        """What many tunnels have in common."""
        esn, window = self._replay(draft, ipsec)
        nat: tuple[int, int] = ipsec.get("nat_traversal", (0, 0))
        device, packet = self._offload(draft, ipsec, nat)
        mark, side, overlap = ipsec.get("mark"), ipsec.get("side", ""), ipsec.get("overlap", 10)
        return (esn, window, *nat, mark, device, packet, side, overlap)

    def _key_file(self, draft: Draft, ipsec: Fields) -> str:
        """Where the key is: one of three keys says it, and a tunnel's own wins over that in `defaults`."""
        if ipsec.broken is not None and not ipsec.broken.isdisjoint(KEY_SOURCES):
            raise Broken
        named = [key for key in KEY_SOURCES if key in ipsec.own] or [key for key in KEY_SOURCES if key in ipsec.all]
        if len(named) == 1:
            return _key_path(named[0], ipsec.get(named[0]), draft.name)
        if named:
            message = f"{draft.name}: {' and '.join(named)} both say where the key is"
            self.problems.add(ipsec.place(named[1]), message, "keep one of them", "key")
        else:
            message = f"{draft.name}: ipsec has no key"
            self.problems.add(ipsec.mark, message, f"name a {', '.join(KEY_SOURCES[:2])} or credential", "key")
        raise Broken

    def _replay(self, draft: Draft, ipsec: Fields) -> tuple[bool, int]:
        esn: bool = ipsec.get("esn", False)
        window: int = ipsec.get("replay_window", ESN_WINDOW if esn else 0)
        if esn and not window:
            hint = f"replay_window: {ESN_WINDOW}, or leave it out"
            self.problems.add(ipsec.place("replay_window"), f"{draft.name}: esn needs a replay window", hint, "esn")
        return esn, window

    def _offload(self, draft: Draft, ipsec: Fields, nat: tuple[int, int]) -> tuple[str, bool]:
        offload: Fields | None = ipsec.get("offload")
        if offload is None or "off" in offload.own:
            return "", False
        device: str | None = offload.get("device")
        if device is None:
            message = f"{draft.name}: offload names no device"
            self.problems.add(offload.mark, message, "e.g. offload: {device: eth0}", "offload")
            raise Broken
        if nat[0]:
            place = where(ipsec.place("nat_traversal"))
            message = f"{draft.name}: offload is impossible together with nat_traversal (at {place})"
            self.problems.add(offload.mark, message, "cards offload plain ESP only: switch one of them off", "nat")
        return device, offload.get("type", False)

    def _reqid(self, draft: Draft, ipsec: Fields, least: int = 1) -> int:
        netns, ids = draft.netns, draft.ids
        given: int | None = ipsec.get("reqid")
        place = ipsec.place("reqid") if given is not None else draft.fields.place("ids")
        reqid = (TUNNEL_REQIDS + ids[0]) & 0xFFFFFFFF if given is None else given
        if not reqid:
            message = f"{draft.name}: the reqid that follows from the tunnel id {ids[0]} is 0, which means any"
            self.problems.add(place, message, "choose another tunnel id, or give a reqid", "reqid")
            raise Broken
        if reqid < least:
            message = f"{draft.name}: with ike a reqid of {reqid} is charon's own, for clients of an LNS"
            self.problems.add(place, message, f"choose one from {least:#x} on, or another tunnel id", "reqid")
            raise Broken
        if given is not None or not draft.ids_taken:
            self.claims.reqid(netns, reqid, (place, draft.name))
        return reqid


def _key_path(key: str, value: str, tunnel: str) -> str:
    if key == "key_dir":
        return f"{value}{'' if value.endswith('/') else '/'}{tunnel}.key"
    return f"credential:{value}" if key == "credential" else value
