-- Use by day out of the spans: what billing must come to as well.
SELECT usage_point_id, channel, start, "end", value, quality, method, estimated,
       start_register, start_register_quality, end_register, end_register_quality, meter_id
FROM usage_spans
WHERE level = 'day' AND start >= $from AND start < $to
ORDER BY usage_point_id, channel, start
