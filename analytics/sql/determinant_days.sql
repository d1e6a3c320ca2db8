-- Use by day of some channels, for what was used of a year before a cycle.
SELECT usage_point_id, channel, start, "end", value
FROM usage_days
WHERE channel IN ({channels}) AND start >= $from AND start < $to
ORDER BY usage_point_id, channel, start
