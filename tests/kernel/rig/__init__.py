"""The test bench: hosts in one kernel, the wire between them, traffic, and kl2tp on them."""
