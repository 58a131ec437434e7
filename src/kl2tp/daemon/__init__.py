"""The daemon: asyncio runtime, control socket, signals, systemd; and the same service without a daemon."""
