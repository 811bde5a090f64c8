"""`python -m piecework.testing.simulation`: see `command`."""

from __future__ import annotations

from piecework.testing.simulation.command import main

if __name__ == "__main__":
    main()
