"""A demonstration on real input: a folder of Python sources, measured in pieces."""
