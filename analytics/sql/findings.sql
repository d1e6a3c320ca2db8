-- What was found in the walk, for billing.
SELECT usage_point_id, channel, start, "end", rule, severity, measured, "limit", meter_id, evidence
FROM findings
WHERE start < $to AND "end" >= $from
ORDER BY usage_point_id, channel, start, rule
