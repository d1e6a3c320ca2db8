-- Water by slot, for the leak rule. Where a point has a register and intervals, both come: the rule takes one.
SELECT usage_point_id, channel, start, "end", value, quality, meter_id
FROM usage_spans
WHERE level = 'slot' AND channel IN ('volume_delta_m3', 'volume_m3')
ORDER BY usage_point_id, channel, start
