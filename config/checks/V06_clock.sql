-- check: V06_clock
-- about: a meter whose clock is off
-- severity: information
-- on_fail: keep
-- param: drift_s = 180       -- so far off is let pass, in seconds
SELECT usage_point_id, '' AS channel, meter_id,
       min(first_reading) AS start, max(last_reading) AS "end",
       max(abs(clock_offset_s)) AS measured, $drift_s AS "limit",
       concat('the clock is off by up to ', max(abs(clock_offset_s)), ' s on ', count(*), ' days') AS evidence
FROM completeness
WHERE month = $month AND abs(clock_offset_s) > $drift_s AND first_reading IS NOT NULL
GROUP BY usage_point_id, meter_id
