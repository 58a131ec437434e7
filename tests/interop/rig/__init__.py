"""The test bench for other implementations: xl2tpd with pppd on either end, kl2tp, the calls between them."""
