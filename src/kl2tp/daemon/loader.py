"""Configuration for the daemon, read in a process of its own.

Parsing holds the interpreter for as long as it lasts, up to a second for ten thousand tunnels: the event loop would
stand still. The child sends the specs in small pickles, or the problems; its memory is gone with it.
"""

import asyncio
import pickle
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from kl2tp.config import ConfigError, load
from kl2tp.daemon.errors import ServiceError, configuration_error
from kl2tp.model.desired import Desired

_SIZE = struct.Struct("!I")
_MANY = ("tunnels", "lns", "lac", "pools")
"""Fields of `Desired` that come in parts."""
_PART = 100
"""Specs in one pickle: a millisecond or so of unpickling."""


def _send(out: BinaryIO, value: object) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    out.write(_SIZE.pack(len(data)) + data)


def main(argv: list[str]) -> int:
    """The child: load the file named in `argv` and write what it says to standard output."""
    out = sys.stdout.buffer
    try:
        desired = load(Path(argv[0]))
    except ConfigError as error:
        _send(out, ("problems", error.problems))
        return 0
    _send(out, ("daemon", desired.daemon))
    _send(out, ("users", desired.users))
    for kind in _MANY:
        specs = getattr(desired, kind)
        for start in range(0, len(specs), _PART):
            _send(out, (kind, specs[start : start + _PART]))
    _send(out, ("end", None))
    out.flush()
    return 0


async def read(path: Path) -> Desired:
    """The configuration. Raises ServiceError with every problem."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # nothing is imported from wherever the daemon was started
        "-m",
        "kl2tp.daemon.loader",
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    assert child.stdout
    try:
        return await _receive(child.stdout, path)
    except (asyncio.IncompleteReadError, pickle.UnpicklingError, EOFError):
        raise ServiceError(
            f"{path}: reading the configuration failed (the reader ended with {await child.wait()})"
        ) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _receive(stream: asyncio.StreamReader, path: Path) -> Desired:
    many: dict[str, list[Any]] = {kind: [] for kind in _MANY}
    whole: dict[str, Any] = {}
    while True:
        (size,) = _SIZE.unpack(await stream.readexactly(_SIZE.size))
        kind, value = _unpickle(await stream.readexactly(size))
        if kind == "problems":
            raise configuration_error(path, value)
        if kind == "end":
            whole |= {kind: tuple(specs) for kind, specs in many.items()}
            return Desired(**whole)
        if kind in many:
            many[kind] += value
        else:
            whole[kind] = value
        await asyncio.sleep(0)


def _unpickle(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except (AttributeError, ImportError, TypeError) as error:  # what the child sends is not as we know it
        raise ServiceError(f"the installed kl2tp is not the running one: {error}", "restart the daemon") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
