"""Fields of `ipsec` to its spec."""

from typing import TypeAlias

from kl2tp.config.conflicts import Claims
from kl2tp.config.draft import Draft
from kl2tp.config.fields import Broken, Fields
from kl2tp.config.problem import Problems, where
from kl2tp.model import ciphers
from kl2tp.model.spec import IpsecSpec, Mode

REQID_BASE = 0x6B6C0000
"""The letters "kl". Default reqids are this plus our tunnel id, so that `ip xfrm` shows whose they are."""
ESN_WINDOW = 64
"""Packets: the replay window of a tunnel with ESN that names none."""
KEY_SOURCES = ("key_file", "key_dir", "credential")

Rest: TypeAlias = tuple[bool, int, int, int, tuple[int, int] | None, str, bool, str, int]
"""`IpsecSpec` from `esn` on."""


class ProtectionBuilder:
    """Builds the protection of tunnels one after the other."""

    def __init__(self, problems: Problems, claims: Claims, defaults: Fields | None) -> None:
        self.problems = problems
        self.claims = claims
        self.defaults = defaults
        self._default_rest: Rest | None = None

    def build(self, draft: Draft) -> None:
        """Fill in whether and how the tunnel is protected. Raises `Broken`."""
        draft.ipsec = None
        ipsec: Fields | None = draft.fields.get("ipsec")
        if ipsec is None or "off" in ipsec.own:
            draft.protected = False
            return
        draft.protected = True
        key_file = self._key_file(draft, ipsec)
        if ipsec is self.defaults:
            rest = self._default_rest = self._default_rest or self._rest(draft, ipsec)
        else:
            rest = self._rest(draft, ipsec)
        cipher: str = ipsec.get("proposal", ciphers.DEFAULT)
        mode: Mode = ipsec.get("mode", Mode.TRANSPORT)
        draft.ipsec = IpsecSpec(cipher, key_file, mode, self._reqid(draft, ipsec), *rest)

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

    def _reqid(self, draft: Draft, ipsec: Fields) -> int:
        netns, ids = draft.netns, draft.ids
        given: int | None = ipsec.get("reqid")
        place = ipsec.place("reqid") if given is not None else draft.fields.place("ids")
        reqid = (REQID_BASE + ids[0]) & 0xFFFFFFFF if given is None else given
        if not reqid:
            message = f"{draft.name}: the reqid that follows from the tunnel id {ids[0]} is 0, which means any"
            self.problems.add(place, message, "choose another tunnel id, or give a reqid", "reqid")
            raise Broken
        if given is not None or not draft.ids_taken:
            self.claims.reqid(netns, reqid, (place, draft.name))
        return reqid


def _key_path(key: str, value: str, tunnel: str) -> str:
    if key == "key_dir":
        return f"{value}{'' if value.endswith('/') else '/'}{tunnel}.key"
    return f"credential:{value}" if key == "credential" else value
