"""The lab: runs a command as root on a kernel that has L2TP, PPP and ESP. See README.md."""
