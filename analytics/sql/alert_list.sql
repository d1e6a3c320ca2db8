-- Alerts as the machine knows them, newest first.
SELECT id, rule, severity, state, usage_point_id, meter_id, node_id, place, group_id, start, last_seen, "end",
       occurrences, summary
FROM alerts
ORDER BY start DESC, id
