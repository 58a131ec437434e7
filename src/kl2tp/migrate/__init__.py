"""Configurations of other programs, rewritten for kl2tp.

What is written does what the other program did. What its file meant and the program never did, and what has no
counterpart here, is told in a report, line by line.
"""
