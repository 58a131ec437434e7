"""YAML to specs.

`load` reads a configuration, `ConfigError` says all that is wrong with it, `kl2tp.config.schema` documents
every key. PyYAML is imported only when something is read.
"""

import os

from kl2tp.config.problem import ConfigError, Problem
from kl2tp.model.desired import Desired

__all__ = ["ConfigError", "Problem", "load", "loads"]


def load(path: str | os.PathLike[str], *, conf_d: bool = True) -> Desired:
    """Read a configuration: the file and, if `conf_d`, conf.d/*.yaml beside it in the order of their names.

    `defaults` and `daemon` stand in the main file only, `tunnels` and `sets` in any. Raises `ConfigError`,
    which holds every problem of every file.
    """
    from kl2tp.config import loading

    return loading.load(path, conf_d=conf_d)


def loads(text: str, name: str = "kl2tp.yaml") -> Desired:
    """Read a configuration from text; `name` stands for the file in messages. Raises `ConfigError`."""
    from kl2tp.config import loading

    return loading.loads(text, name)
