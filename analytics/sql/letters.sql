-- What came and could not be read.
SELECT topic, reason, received_at
FROM dead_letters
WHERE received_at >= $from AND received_at < $to
