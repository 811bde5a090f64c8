"""Bridges to what a program uses beside piecework. Each is imported by its own name, and by nothing else."""
