"""What a link that is up costs: memory, what is written down of it, and that nothing stays of one that is gone."""

import gc
import json
import os
import tracemalloc

from kl2tp.model.calls import CHAP
from kl2tp.ppp.automaton import Automaton
from kl2tp.ppp.link import Link
from unit.ppp.pair import Pair, settings

MANY = 40


def up() -> Pair:
    """Two links with IPv4 and IPv6."""
    pair = Pair(*settings(CHAP)).open()
    pair.run(2, until=lambda: pair.is_up)
    return pair


def test_an_idle_link_takes_less_than_two_kilobytes() -> None:
    up()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        links = []
        for _ in range(MANY):
            link = up().server.link
            assert link._ipv6 is not None
            link._random = link.lcp._random = link._ipv6._random = os.urandom  # the pair's own is large
            links.append(link)
        gc.collect()
        taken = (tracemalloc.get_traced_memory()[0] - before) / MANY
    finally:
        tracemalloc.stop()
    assert len(links) == MANY
    assert taken < 2048


def test_what_is_written_down_is_short() -> None:
    assert len(json.dumps(up().server.link.save())) < 600


def test_nothing_waits_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            link = up().server.link
            link.lower_down(0.0)
            del link
        pair = up()
        pair.server.link.close(pair.now)
        link = pair.server.link
        del pair, link
        left = [thing for thing in gc.get_objects() if isinstance(thing, Link | Automaton)]
    finally:
        gc.enable()
    assert left == []
