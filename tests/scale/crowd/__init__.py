"""Thousands of callers in one process: light L2TPv2 and PPP clients that share a socket.

They stand for an LAC's side only as far as a server can tell, with a codec of their own, so that what they see of a
server is seen independently of kl2tp's code. Meant to be cheap: they share the processor with the server.
"""
