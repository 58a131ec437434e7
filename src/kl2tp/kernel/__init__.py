"""The one door to the kernel: netlink codecs, sockets, namespaces. Above it nobody packs a struct."""
