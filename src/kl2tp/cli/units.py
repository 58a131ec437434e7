"""Numbers for people: durations, ages, bytes, counts."""

import time

_STEPS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def duration(seconds: float) -> str:
    """The two largest units: `3d4h`, `12m5s`; below ten seconds with a decimal."""
    if seconds < 0:
        return "0s"
    if seconds < 9.95:
        return f"{seconds:.3f}s" if seconds < 0.1 else f"{seconds:.1f}s"
    rest = round(seconds)
    for index, (unit, size) in enumerate(_STEPS):
        if rest >= size:
            text = f"{rest // size}{unit}"
            if index + 1 < len(_STEPS):
                smaller, step = _STEPS[index + 1]
                if part := rest % size // step:
                    text += f"{part}{smaller}"
            return text
    return "0s"


def age(since: float | str | None) -> str:
    """How long ago: of seconds since the epoch, or of an ISO 8601 time; other text stays as it is."""
    if not since:
        return "-"
    if isinstance(since, str):
        from datetime import datetime

        try:
            moment = datetime.fromisoformat(since).timestamp()
        except ValueError:
            return since
    else:
        moment = since
    return duration(time.time() - moment)


def size(count: float) -> str:
    """Bytes with a binary prefix."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def number(count: float) -> str:
    """Thousands apart."""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """`1 tunnel`, `2 tunnels`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {_plural(noun)}"


def _plural(noun: str) -> str:
    return noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
