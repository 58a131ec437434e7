"""Reading a configuration: which files, and what they are together."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from kl2tp.config import document
from kl2tp.config.assembly import Assembly
from kl2tp.config.problem import Problems
from kl2tp.model.desired import Desired
from kl2tp.model.spec import Where

CONF_D = "conf.d"


def load(path: str | os.PathLike[str], *, conf_d: bool = True) -> Desired:
    """Read a configuration; see `kl2tp.config.load`."""
    problems = Problems()
    main = os.fspath(path)
    with _without_gc():
        assembly = Assembly(problems, main)
        assembly.add(main, document.read(main, problems))
        for name in _conf_d(os.path.join(os.path.dirname(main), CONF_D), problems) if conf_d else ():
            assembly.add(name, document.read(name, problems))
        return assembly.finish()


def loads(text: str, name: str = "kl2tp.yaml") -> Desired:
    """Read a configuration from text; see `kl2tp.config.loads`."""
    with _without_gc():
        assembly = Assembly(Problems(), name)
        assembly.add(name, text)
        return assembly.finish()


@contextmanager
def _without_gc() -> Iterator[None]:
    """Nothing here makes cycles, and the collector would more than double the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _conf_d(directory: str, problems: Problems) -> list[str]:
    try:
        entries = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.add(Where(directory, 0, 0), f"can't be read: {error.strerror}")
        return []
    for entry in entries:
        if entry.endswith(".yml"):
            path = os.path.join(directory, entry)
            problems.file(path)
            hint = f"rename it to {entry[:-4]}.yaml, or to something else if it is not meant to be read"
            problems.add(Where(path, 0, 0), "only *.yaml is read here", hint)
    return [os.path.join(directory, name) for name in entries if name.endswith(".yaml") and not name.startswith(".")]
