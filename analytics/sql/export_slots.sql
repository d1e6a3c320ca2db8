-- Curves of usage points, for exports. $only is a condition.
SELECT usage_point_id, channel, start, "end", value, quality, method, meter_id
FROM usage_spans
WHERE level = 'slot' AND start >= $from AND start < $to AND $only
ORDER BY usage_point_id, channel, start
