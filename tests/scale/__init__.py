"""Measurements with hundreds to thousands of tunnels."""
