-- check: V19_physical
-- about: current flows and the register stands still
-- severity: issue
-- on_fail: keep
-- scope: commodity = 'electricity'
-- param: least_a = 1.0       -- less is let pass, in ampere
-- param: readings = 4        -- so many of a day must say so
WITH still AS (
  SELECT usage_point_id, channel, meter_id, day, start, "end"
  FROM usage_days
  WHERE start >= $from AND start < $to AND channel = 'energy_import_kwh' AND value = 0
    AND quality IN ('valid', 'verified', 'derived')
), flowing AS (
  SELECT meter_id, ts, greatest(coalesce(current_l1_a, 0), coalesce(current_l2_a, 0), coalesce(current_l3_a, 0)) AS ampere
  FROM electricity_readings
  WHERE ts >= $from AND ts < $to + INTERVAL '27 hours'
    AND (current_l1_a > $least_a OR current_l2_a > $least_a OR current_l3_a > $least_a)
)
SELECT s.usage_point_id, s.channel, s.meter_id, s.start, s."end", max(f.ampere) AS measured, $least_a AS "limit",
       concat(count(*), ' readings of up to ', max(f.ampere), ' A, and no use') AS evidence
FROM still s
JOIN flowing f ON f.meter_id = s.meter_id AND f.ts > s.start AND f.ts <= s."end"
GROUP BY s.usage_point_id, s.channel, s.meter_id, s.start, s."end"
HAVING count(*) >= $readings
