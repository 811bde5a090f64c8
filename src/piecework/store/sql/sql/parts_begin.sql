INSERT INTO piecework_distributed (
    state, token, producer, created_at, changed_at, ttl, total, open, failed, sealed, complete, expected,
    push_error, last, ended_at, expires_at, stopped_at, stopped_by, reason, base_at, base_ended, "then",
    then_at, otherwise, otherwise_at, calls
) VALUES (
    :state, :token, :producer, :created_at, :changed_at, :ttl, :total, :open, :failed, :sealed, :complete,
    :expected, :push_error, :last, :ended_at, :expires_at, :stopped_at, :stopped_by, :reason, :base_at,
    :base_ended, :then, :then_at, :otherwise, :otherwise_at, :calls
) RETURNING seq
