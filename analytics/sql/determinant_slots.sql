-- Use by slot of some channels, for determinants.
SELECT usage_point_id, channel, start, "end", value, quality, method
FROM usage_spans
WHERE level = 'slot' AND channel IN ({channels}) AND start >= $from AND start < $to
ORDER BY usage_point_id, channel, start
