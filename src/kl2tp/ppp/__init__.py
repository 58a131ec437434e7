"""PPP without input and output: LCP, authentication, IPCP and IPv6CP as machines that get frames and the time."""
