"""What the shelves on SQL have in common: the rooms in which statements go by their titles, and those files that both run."""
