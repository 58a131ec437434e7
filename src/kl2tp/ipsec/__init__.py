"""IPsec for tunnels: static keys. Ciphers and packet overhead are values and live in `kl2tp.model`."""
