"""How fast piecework is on Redis: ``python -m bench.redis``, on a server that the benchmark starts itself.

The server is a real one with ``appendonly yes`` and ``appendfsync everysec``, on a free port of this machine, and gone
afterwards.
"""
