"""Codecs: L2TPv2 headers, AVPs and control messages, PPP packets and options. Pure: bytes in, values out, and back."""
