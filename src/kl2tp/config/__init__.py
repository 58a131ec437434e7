"""YAML to specs: `load` reads a configuration, `ConfigError` says all that is wrong with it, `schema` is its reference."""

from kl2tp.config.loading import load, loads
from kl2tp.config.problem import ConfigError, Problem

__all__ = ["ConfigError", "Problem", "load", "loads"]
