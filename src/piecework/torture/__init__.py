"""`piecework torture`: shows a user that their own store keeps its promises, while workers are killed and words are lost.

Real workers run a mix of jobs; a nemesis kills and freezes them, and loses what they say to the store. Every body of a
job writes into a ledger, which is joined with the store at the end. It uses the seam and the public names alone, so
that it knows no database.
"""
