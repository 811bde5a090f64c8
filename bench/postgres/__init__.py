"""How fast piecework is on PostgreSQL: part of ``python -m bench``, on a server that the benchmark starts itself.

The server is a real one, durable (fsync and synchronous_commit on), on a free port of this machine, and gone afterwards.
"""
