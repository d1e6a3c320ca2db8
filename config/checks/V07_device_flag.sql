-- check: V07_device_flag
-- about: what a meter reports about itself: faults, tampering, a clock that was set; readings that it marks are set aside
-- severity: issue
-- on_fail: keep
SELECT DISTINCT c.usage_point_id, '' AS channel, e.meter_id, e.ts AS start, e.ts AS "end",
       concat(e.event, ' ', e.detail) AS evidence
FROM meter_events e
JOIN channels c ON c.meter_id = e.meter_id
 AND (c.installed_at IS NULL OR c.installed_at <= e.ts) AND (c.removed_at IS NULL OR e.ts < c.removed_at)
WHERE e.ts >= $from AND e.ts < $to
  AND e.event IN ('fault', 'tamper', 'cover_open', 'magnet', 'clock_set', 'reverse_flow', 'dry')
