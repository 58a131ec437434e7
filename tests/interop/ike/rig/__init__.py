"""The test bench for IKE: strongSwan's charon on hosts of its own, a NAT, observers of wires, numbered packets."""
