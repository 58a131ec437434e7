"""kl2tp: L2TP tunnels in the Linux kernel, declared in YAML, bound to IPsec, kept as declared."""

__version__ = "0.1.0"
