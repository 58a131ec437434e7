"""The runtime of L2TPv2 calls: sockets, clocks and threads around the sans-IO machines of `control` and `ppp`."""
