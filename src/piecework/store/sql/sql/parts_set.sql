UPDATE piecework_distributed SET
    state = :state, producer = :producer, changed_at = :changed_at, ttl = :ttl, total = :total, open = :open,
    failed = :failed, sealed = :sealed, complete = :complete, expected = :expected, push_error = :push_error,
    last = :last, ended_at = :ended_at, expires_at = :expires_at, stopped_at = :stopped_at, stopped_by =
    :stopped_by, reason = :reason, base_at = :base_at, base_ended = :base_ended, "then" = :then, then_at =
    :then_at, otherwise = :otherwise, otherwise_at = :otherwise_at, calls = :calls
WHERE seq = :seq
