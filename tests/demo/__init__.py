"""A hub and two branches on one machine, with tunnels, then with calls: what `make demo` shows."""
