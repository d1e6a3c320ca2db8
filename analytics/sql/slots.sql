-- Use by slot, for profiles.
SELECT usage_point_id, channel, start, "end", value, quality
FROM usage_spans
WHERE level = 'slot' AND start >= $from AND start < $to
ORDER BY usage_point_id, channel, start
