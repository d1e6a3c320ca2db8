-- Use by day with the registers at both ends, for billing.
SELECT usage_point_id, channel, start, "end", value, quality, method, estimated,
       start_register, start_register_quality, end_register, end_register_quality, meter_id,
       estimated_start, estimated_end
FROM usage_days
WHERE start >= $from AND start < $to
ORDER BY usage_point_id, channel, start
