SELECT coalesce(max(ordinal), -1) FROM piecework_job WHERE batch = :batch
