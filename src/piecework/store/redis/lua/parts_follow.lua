#!lua flags=allow-oom
-- with: parts add
-- Changes a distributed job, and stores what follows from that: told as `add` is, and a change as the fifth.
