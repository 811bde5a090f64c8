"""How fast piecework is, against the limit of the same database: ``python -m bench``.

Both sides of every ratio are measured in one run, in turns, on the same disk and with the same SQLite settings, because
the clock of a shared machine is worth little by itself. The limit is a hand-written loop that does nothing but move rows
(limit.py); piecework does the same work through its public calls and ``piecework work``.
"""
