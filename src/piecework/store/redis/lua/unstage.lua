#!lua flags=allow-oom
-- with: staged unstage add
-- Stores the next bite of a large call, unless it was. Told {the call's name, the number of the bite, or false for the next one};
-- answers {the answers to it, or false where they are the jobs' own ids, whether there are more to be stored}.
