"""A hub and two branches on one machine: what `make demo` shows."""
