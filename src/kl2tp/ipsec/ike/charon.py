"""The supervisor: charon is kept as it is wanted, and what it does is heard.

One connection to charon is for events, one for commands. If either breaks, or charon is silent while somebody waits,
both are left, and everything is looked at anew when charon answers again. Meanwhile its SAs live on in the kernel, so
what was known of them stays. Another charon does not know them: they are orphans until their place is taken, their
time is over, or the owner of the kernel says that they are gone.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from kl2tp.access import secretfile
from kl2tp.ipsec.ike.causes import Log
from kl2tp.ipsec.ike.connections import Compiler, Content, read_public, renewed
from kl2tp.ipsec.ike.loading import Loading, process
from kl2tp.ipsec.ike.negotiation import Cause, CauseKind, ChildSa, IkeSa, Negotiation, State, Stranger
from kl2tp.ipsec.ike.problems import Problems
from kl2tp.ipsec.ike.sas import Listed, Sas, ours, parsed
from kl2tp.ipsec.ike.trying import AT_ONCE, Trying
from kl2tp.ipsec.ike.wanted import CHILD, PREFIX, Wanted
from kl2tp.ipsec.vici import PATIENCE_S, CharonError, CommandError, Vici
from kl2tp.wire.vici import NOTHING, Message, Section, ViciError, sections, text

_log = logging.getLogger("kl2tp.ike")
EVENTS = ("ike-updown", "ike-rekey", "ike-update", "child-updown", "child-rekey", "log")
HEARTBEAT_S = 10.0
"""charon is asked whether it lives when it has said nothing for so long."""
ADOPTED_S = 1.0
"""After how long children have another IKE SA, or charon has told of their end."""
CONSENT_S = 5.0
"""How long a peer may take to answer that an IKE SA ends."""
LOOK_S, LIST_S = 30.0, 3600.0
"""How often it is looked at whether charon still has what we loaded, and which SAs it has: events should have said."""
MANY = 16
"""More connections than this are looked at by one list of all."""
RECONNECT_S = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Waits between attempts to reach charon; the last one goes on."""
_AWAY = ("removed vici connection: " + PREFIX, "unloaded shared key with id '" + PREFIX)
"""What charon's log says when somebody unloads what is ours."""


class Charon:
    """All our connections in strongSwan's charon. One event loop owns it; no method blocks."""

    def __init__(
        self,
        socket: str,
        state_file: Path | None,
        *,
        changed: Callable[[set[str]], None],
        gone: Callable[[ChildSa], None] = lambda _: None,
        fresh: Callable[[ChildSa], None] = lambda _: None,
        orphaned: Callable[[list[ChildSa]], None] = lambda _: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`changed` gets the names of connections whose `Negotiation` is another than before.

        `gone` gets each child that is no more and was not re-keyed: a client that left, an orphan whose place somebody
        else has now (its SAs may still be in the kernel then: `orphaned` is True, delete them by SPI). `fresh` gets
        each pair of IKEv2 that was not known before, successors too; `orphaned` all that another charon has left. They
        are called from the event loop, soon after the fact, never within a call of ours. `socket` is a path, or
        `unix://PATH`.
        """
        self.slots = asyncio.Semaphore(AT_ONCE)
        self._socket = socket.removeprefix("unix://")
        self._patience_s = patience_s
        self._on_changed, self._on_gone = changed, gone
        self._on_fresh, self._on_orphaned = fresh, orphaned
        self._sas = Sas()
        self.clients: Mapping[int, ChildSa] = MappingProxyType(self._sas.clients)
        """Of all LNSes, by reqid: who a packet with this mark comes from."""
        self._loading = Loading(state_file)
        self._log = Log()
        self._problems = Problems()
        self._wanted: Mapping[str, Wanted] = {}
        self._content = Content()
        self._compiler = Compiler(secretfile.read, read_public)
        self._generations: dict[str, int] = {}
        """How often a connection was renewed: what the next IKE SA is told from the last by."""
        self._trying: dict[str, Trying] = {}
        self._states: dict[str, tuple[State, float]] = {}
        self._loop = asyncio.get_running_loop()
        self._vici: Vici | None = None
        self._events: Vici | None = None
        self._identity = self._version = self._away = ""
        self._early: list[tuple[str, Section]] | None = None
        """Events since before the list that is being read."""
        self._synced = self._missing = self._unclear = False
        """Whether charon agrees, has lost something of ours, or has said what we could not understand."""
        self._listing, self._look_lock = asyncio.Lock(), asyncio.Lock()
        self._looking: set[str] = set()
        """Connections that somebody waits to see."""
        self._dirty = asyncio.Event()
        self._settled = asyncio.Event()
        self._telling = False
        self._touched: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what is wanted

    def want(self, wanted: Mapping[str, Wanted]) -> None:
        """These connections and no others from now on. Cheap; secrets are read in a worker thread afterwards, and
        are read again at every call if their files changed."""
        before, self._wanted = self._wanted, dict(wanted)
        self._sas.many = frozenset(name for name, want in wanted.items() if want.many)
        self._problems.want(self._wanted)
        for name in before.keys() - wanted.keys():
            self._states.pop(name, None)
            self._generations.pop(name, None)
        for name in list(self._trying):
            if (want := wanted.get(name)) is None or not want.initiates:
                self._trying.pop(name).stop()
            else:
                self._trying[name].want = want
        for name, want in self._wanted.items():
            if want.initiates and name not in self._trying:
                self._trying[name] = Trying(want, self)
        self._touched |= {name for name in before.keys() | wanted.keys() if before.get(name) != wanted.get(name)}
        self._settled.clear()
        self._dirty.set()
        self._tell()

    # --- what is known

    def negotiation(self, name: str) -> Negotiation:
        """What is known; a name that is not wanted is DOWN."""
        children, trying = self._sas.children(name), self._trying.get(name)
        return Negotiation(
            state=self._state(name),
            since=self._states.get(name, (None, 0.0))[1],
            ike=self._sas.ike(name),
            children=children,
            problem=self._problems.of(name, children),
            next_try=trying.next_try if trying else None,
            tries=trying.failed if trying else 0,
            rekeys=self._sas.rekeys(name),
            loaded=self._loading.loaded(name, self._content),
        )

    def _state(self, name: str) -> State:
        if not self._synced:
            return State.NO_CHARON
        if self._sas.live(name):
            return State.UP
        return State.CONNECTING if self.under_way(name) else State.DOWN

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        """Peers that failed and belong to no one tunnel: strangers, and clients of an LNS; the latest last, a hundred
        at most."""
        return self._problems.strangers

    @property
    def alive(self) -> bool:
        """Whether charon answers, and what it has is known."""
        return self._synced

    @property
    def away(self) -> str:
        """Why charon does not answer; "" while it does."""
        return "" if self._synced else self._away or "strongSwan is not reached yet"

    @property
    def version(self) -> str:
        """`strongSwan 5.9.8`; "" while it was never seen."""
        return self._version

    # --- what others ask for

    async def settled(self) -> None:
        """Wait until charon agrees with what is wanted, as far as it can; while it is away, until it is back."""
        await self._settled.wait()

    async def details(self, name: str) -> Negotiation:
        """As `negotiation`, with counters of this moment. Without charon, what is known."""
        with suppress(CharonError, CommandError, ViciError):
            await self.look(name)
        return self.negotiation(name)

    def retry(self, name: str) -> None:
        """Begin now, without waiting for the next try."""
        if (trying := self._trying.get(name)) is not None:
            trying.retry()

    def renew(self, name: str) -> None:
        """A new IKE SA, with all of authentication, beside the old one, which ends when the new one is up."""
        if (trying := self._trying.get(name)) is not None:
            trying.renew()

    def terminate(self, name: str) -> None:
        """End all SAs of a connection; if it is still wanted and we initiate, it begins anew."""
        if name.startswith(PREFIX):
            self._spawn(self._end({"ike": name}))

    def terminate_client(self, reqid: int) -> None:
        """End the IKE SA of one client of an LNS."""
        child = self.clients.get(reqid)
        if child is not None and not child.orphaned:
            self._spawn(self._end({"ike-id": str(child.ike_id)}))

    def sas_gone(self, spis: Iterable[int]) -> None:
        """The owner of the kernel says: these inbound SPIs are there no more. Orphans among them are gone then."""
        self._sas.kernel_gone(spis)
        self._tell()

    async def _end(self, what: Message) -> None:
        """End IKE SAs with the peer's consent; those for which it does not come soon end without. Raises CharonError,
        ViciError."""
        ike = self._sas.ike(str(what.get("ike", "")))
        ike_ids = [str(sa.unique_id) for sa in ike] if "ike" in what else [str(what["ike-id"])]
        with suppress(CommandError):  # there is nothing to end
            await self._ask("terminate", {**what, "timeout": "-1"})
            self._spawn(self._force(ike_ids))

    async def _force(self, ike_ids: Iterable[str]) -> None:
        await asyncio.sleep(CONSENT_S)
        for ike_id in ike_ids:  # those of then, not what was begun since
            with suppress(CommandError):
                await self._ask("terminate", {"ike-id": ike_id, "force": "yes", "timeout": "-1"})

    def _spawn(self, work: Awaitable[None]) -> None:
        async def quietly() -> None:
            with suppress(CharonError, ViciError):
                await work

        task = self._loop.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, command: str, message: Message) -> Section:
        if self._vici is None or self._vici.closed.done():
            raise CharonError(self.away)
        return await self._vici.ask(command, message)

    # --- charon comes and goes

    async def run(self) -> None:
        """Connect, make charon agree, hear, begin: until cancelled. Raises nothing else."""
        tries = 0
        while True:
            began = self._loop.time()
            try:
                await self._session()
            except (CharonError, CommandError, ViciError) as error:
                self._lose(str(error))
            except Exception:  # a fault of ours must not end the supervision of all tunnels
                _log.exception("the connection to strongSwan is begun anew after a fault")
                self._lose("a fault in kl2tp")
            tries = 0 if self._loop.time() - began > 2 * self._patience_s else tries + 1
            await asyncio.sleep(RECONNECT_S[min(tries, len(RECONNECT_S) - 1)])

    async def _session(self) -> None:
        """As long as charon answers. Raises CharonError, CommandError, ViciError."""
        self._vici = vici = await Vici.open(self._socket, patience_s=self._patience_s)
        answer = await vici.ask("version")
        identity = process(vici.pid) or text(sections(await vici.ask("stats")).get("uptime", {}), "since")
        self._events = events = await Vici.open(self._socket, patience_s=self._patience_s)
        self._early = []
        if unknown := await events.listen(EVENTS, self._event):
            _log.info("this strongSwan has no events %s", ", ".join(unknown))
        if identity != self._identity:
            self._log.clear()
            if self._identity:
                self._on_orphaned(self._sas.orphan_all())
            self._identity = identity
        await self._list(vici)
        await self._loading.look(vici, identity)
        self._version = f"strongSwan {text(answer, 'version')}"
        self._dirty.set()
        _log.info("%s answers (process %d)", self._version, vici.pid)
        await self._serve(vici, events)

    async def _serve(self, vici: Vici, events: Vici) -> None:
        """Agree, again and again, until a connection breaks."""
        looked = listed = self._loop.time()
        while True:
            if self._missing:
                self._missing = False
                await self._loading.look(vici, self._identity)
            if self._dirty.is_set():
                self._dirty.clear()
                await self._agree(vici)
            await self._sleep(vici, events)
            for broken in (vici, events):
                if broken.closed.done():
                    raise CharonError(broken.closed.result())
            now = self._loop.time()
            if now - listed >= LIST_S or self._unclear:
                listed, self._unclear = now, False
                await self._list(vici)
            if now - looked >= LOOK_S:
                looked = now
                if await self._loading.look(vici, self._identity):
                    self._dirty.set()
            else:
                await vici.ask("version")
            self._sas.expire(time.time())
            self._tell()

    async def _sleep(self, vici: Vici, events: Vici) -> None:
        """Until there is something to do."""
        dirty = self._loop.create_task(self._dirty.wait())
        try:
            await asyncio.wait(
                (dirty, vici.closed, events.closed), timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            dirty.cancel()

    def _lose(self, why: str) -> None:
        """charon is away."""
        for connection in (self._vici, self._events):
            if connection is not None:
                connection.fail(why)
        self._vici = self._events = self._early = None
        if self._synced or not self._away:
            _log.warning("%s", why)
        self._away, self._synced = why, False
        self._touched |= self._wanted.keys()
        self._sas.expire(time.time())
        self._tell()

    async def close(self) -> None:
        """End the connections to charon. SAs and connections in charon stay."""
        for trying in self._trying.values():
            trying.stop()
        self._trying = {}
        for task in self._tasks:
            task.cancel()
        for connection in (self._vici, self._events):
            if connection is not None:
                await connection.close()
        self._vici = self._events = None
        self._synced = False

    # --- charon made to agree

    async def _agree(self, vici: Vici) -> None:
        """One pass over everything that is wanted. Raises CharonError."""
        wanted = self._wanted
        # In a thread, since it reads files.
        self._content = await asyncio.to_thread(self._compiler.compile, list(wanted.values()))
        done = await self._loading.agree(vici, self._content, wanted)
        await asyncio.to_thread(self._loading.save)
        self._problems.loading = {**self._content.problems, **done.problems}
        unwanted = [name for name in self._sas.names() if name not in wanted]
        for name in (*(name for name in unwanted if self._sas.forget(name)), *done.hard):
            await self._end({"ike": name})
        if done.sent:
            _log.info("strongSwan was told %d changes", done.sent)
        self._synced, self._away = True, ""
        self._touched |= wanted.keys()
        for name in done.soft:
            self.renew(name)
        if not self._dirty.is_set():
            self._settled.set()
        self._tell()

    # --- charon's lists and events

    async def _list(self, vici: Vici, name: str = "") -> None:
        """All SAs, or those of one connection, and what has happened while they were listed. Raises CharonError,
        CommandError, ViciError: then nothing is replaced."""
        async with self._listing:
            if self._early is None:
                self._early = []
            listed: list[Listed] = []
            wrong: list[ViciError] = []

            def take(_: str, event: Section) -> None:
                """Each as it comes: ten thousand at once would stop everything else."""
                try:
                    listed.extend(parsed(found, section, time.time()) for found, section in ours(event))
                except ViciError as error:
                    wrong.append(error)

            try:
                await vici.stream("list-sas", "list-sa", take, {"ike": name} if name else NOTHING)
                if wrong:
                    raise wrong[0]
                if name:
                    self._sas.replace_one(name, listed)
                else:
                    self._sas.replace(listed)
            finally:
                early, self._early = self._early or (), None
                for kind, event in early:
                    self._take(kind, event)
                self._tell()

    def _event(self, kind: str, event: Section) -> None:
        """What charon says by itself."""
        if kind == "log":
            self._logged(event)
        elif self._early is not None:
            self._early.append((kind, event))
        else:
            self._take(kind, event)
            self._tell()

    def _take(self, kind: str, event: Section) -> None:
        """One event about SAs. What makes no sense is a reason to list them again."""
        up = text(event, "up") == "yes"
        try:
            for name, section in ours(event):
                self._apply(kind, name, section, event, up=up)
        except ViciError as error:
            _log.warning("strongSwan: an event %s without sense: %s", kind, error)
            self._unclear = True
            self._dirty.set()

    def _apply(self, kind: str, name: str, section: Section, event: Section, *, up: bool) -> None:
        now, sas = time.time(), self._sas
        if kind == "ike-updown":
            ike = sas.ike_updown(name, section, up, now)
            if not up and (trying := self._trying.get(name)) is not None:
                trying.pulse(ended=True)
            if sas.has_child(name, ike.unique_id) or (up and ike.version == 1 and sas.live(name)):
                self._spawn(self._look_for_adopted(name, ike.unique_id, up=up))
        elif kind == "child-updown":
            sas.child_updown(name, section, up, now)
            if up:
                self._problems.known(text(section, "remote-host"))
        elif kind == "ike-rekey":
            sas.ike_rekey(name, section, now)
        elif kind == "child-rekey":
            sas.child_rekey(name, section, now)
        elif kind == "ike-update":
            sas.ike_update(name, section, event)

    async def _look_for_adopted(self, name: str, ike_id: int, *, up: bool) -> None:
        """Whose the children of an IKE SA are that is over, or those beside a new one of IKEv1."""
        await asyncio.sleep(ADOPTED_S)
        if up or self._sas.has_child(name, ike_id):
            with suppress(CommandError):
                await self.look(name)

    def _logged(self, event: Section) -> None:
        """A line of charon's log."""
        if "ikesa-uniqueid" not in event:
            if text(event, "msg").startswith(_AWAY):
                self._missing = True
                self._dirty.set()
            return
        finding = self._log.take(event, time.time())
        if finding is None:
            return
        for name in self._problems.found(finding, self.is_live):
            self._touched.add(name)
            if (trying := self._trying.get(name)) is not None:
                trying.pulse(ended=finding.final)
        self._tell()

    # --- told to others

    def _tell(self) -> None:
        """Tell of changes, soon and all together."""
        if not self._telling and (self._sas.changed or self._sas.gone or self._touched):
            self._telling = True
            self._loop.call_soon(self._tell_now)

    def _tell_now(self) -> None:
        self._telling = False
        names, self._touched = self._touched | self._sas.changed, set()
        gone, self._sas.gone = self._sas.gone, []
        fresh, self._sas.fresh = self._sas.fresh, []
        self._sas.changed.clear()
        now = time.time()
        for name in names & self._wanted.keys():
            before, state = self._states.get(name, (None, 0.0))[0], self._state(name)
            if state is before:
                pass
            elif state is State.UP:
                self._problems.up(name)
            elif before is State.UP:
                self._problems.down(name, now)
            if state is not before:
                self._states[name] = (state, now)
            if (trying := self._trying.get(name)) is not None:
                trying.pulse()
        for child in gone:
            self._on_gone(child)
        for child in fresh:
            self._on_fresh(child)
        if names:
            self._on_changed(names)

    # --- what an attempt needs of us (`trying.Agent`)

    def can_begin(self, name: str) -> bool:
        """Whether charon answers and has the connection."""
        return self._synced and self._loading.loaded(name, self._content) and name in self._wanted

    def is_live(self, name: str) -> bool:
        """Whether charon has an IPsec SA for it."""
        return self._sas.live(name)

    def under_way(self, name: str) -> bool:
        """Whether something is being negotiated."""
        return self._sas.negotiating(name)

    def ike_sas(self, name: str) -> tuple[IkeSa, ...]:
        """The IKE SAs it has."""
        return self._sas.ike(name)

    def has_child(self, name: str, ike_id: int) -> bool:
        """Whether there is an IPsec SA below that IKE SA."""
        return self._sas.has_child(name, ike_id)

    async def look(self, name: str) -> None:
        """Ask charon what it has of it; of all, if many ask. Raises CharonError, CommandError, ViciError."""
        self._looking.add(name)
        async with self._look_lock:
            if self._vici is None:
                raise CharonError(self.away)
            if name not in self._looking:
                return  # seen with others
            if len(self._looking) > MANY:
                self._looking.clear()
                await self._list(self._vici)
            else:
                self._looking.discard(name)
                await self._list(self._vici, name)

    async def initiate(self, name: str) -> None:
        """Begin. Raises CharonError, CommandError, ViciError."""
        try:
            await self._ask("initiate", {"ike": name, "child": CHILD, "timeout": "-1"})
        except CommandError as error:
            cause = Cause(CauseKind.OTHER, f"strongSwan does not begin: {error}", when=time.time())
            self._problems.fail(name, cause)
            self._missing = True
            self._dirty.set()
            raise

    async def load_renewed(self, name: str) -> None:
        """Have the next attempt begin with an IKE SA of its own. Raises CharonError, CommandError, ViciError."""
        if (loaded := self._content.connections.get(name)) is None:
            raise CommandError("the connection cannot be loaded at the moment")
        generation = self._generations[name] = self._generations.get(name, 0) + 1
        await self._ask("load-conn", renewed(loaded, name, generation))

    async def end_ike(self, ike_id: int) -> None:
        """End an IKE SA. Raises CharonError, ViciError."""
        await self._end({"ike-id": str(ike_id)})

    def tried(self, name: str) -> None:
        """Something about the tries is another than before."""
        self._touched.add(name)
        self._tell()
