-- Use by day out of the spans: what billing must come to as well. Where in a day readings lie, only the days know.
SELECT s.usage_point_id, s.channel, s.start, s."end", s.value, s.quality, s.method, s.estimated,
       s.start_register, s.start_register_quality, s.end_register, s.end_register_quality, s.meter_id,
       d.estimated_start, d.estimated_end
FROM usage_spans s
LEFT JOIN usage_days d ON d.usage_point_id = s.usage_point_id AND d.channel = s.channel AND d.start = s.start
WHERE s.level = 'day' AND s.start >= $from AND s.start < $to
ORDER BY s.usage_point_id, s.channel, s.start
