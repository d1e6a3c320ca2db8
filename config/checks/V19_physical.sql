-- check: V19_physical
-- about: current flows and the register stands still, or energy is counted on a day without any current
-- severity: issue
-- on_fail: keep
-- scope: commodity = 'electricity'
-- param: least_a = 1.0       -- less is let pass, in ampere
-- param: readings = 4        -- so many of a day must say so
-- param: none_a = 0.05       -- no more than this is no current
-- param: floor = 1.0         -- so much a day without current is let pass, in kWh
-- param: none_readings = 24  -- so many readings of a day, all that have a current, must show none
WITH days AS (
  SELECT usage_point_id, channel, meter_id, start, "end", value
  FROM usage_days
  WHERE start >= $from AND start < $to AND channel = 'energy_import_kwh'
    AND quality IN ('valid', 'verified', 'derived')
), flowing AS (
  SELECT meter_id, ts, greatest(coalesce(current_l1_a, 0), coalesce(current_l2_a, 0), coalesce(current_l3_a, 0)) AS ampere
  FROM electricity_readings
  WHERE ts >= $from AND ts < $to + INTERVAL '27 hours'
    AND (current_l1_a > $least_a OR current_l2_a > $least_a OR current_l3_a > $least_a)
), measured AS (
  SELECT meter_id, ts,
         greatest(abs(coalesce(current_l1_a, 0)), abs(coalesce(current_l2_a, 0)), abs(coalesce(current_l3_a, 0))) AS ampere
  FROM electricity_readings
  WHERE ts >= $from AND ts < $to + INTERVAL '27 hours'
    AND coalesce(current_l1_a, current_l2_a, current_l3_a) IS NOT NULL
), dead AS (
  -- A day without current holds six such hours by the clock of UTC: who has none is not looked at closely.
  SELECT DISTINCT meter_id
  FROM (SELECT meter_id FROM measured GROUP BY meter_id, date_bin(INTERVAL '6 hours', ts) HAVING max(ampere) <= $none_a)
)
SELECT s.usage_point_id, s.channel, s.meter_id, s.start, s."end", max(f.ampere) AS measured, $least_a AS "limit",
       concat(count(*), ' readings of up to ', max(f.ampere), ' A, and no use') AS evidence
FROM days s
JOIN flowing f ON f.meter_id = s.meter_id AND f.ts > s.start AND f.ts <= s."end"
WHERE s.value = 0
GROUP BY s.usage_point_id, s.channel, s.meter_id, s.start, s."end"
HAVING count(*) >= $readings
UNION ALL
SELECT u.usage_point_id, u.channel, u.meter_id, u.start, u."end", u.value AS measured, $floor AS "limit",
       concat(u.value, ' kWh, and ', count(*), ' readings of no more than ', max(m.ampere), ' A') AS evidence
FROM days u
JOIN dead d ON d.meter_id = u.meter_id
JOIN measured m ON m.meter_id = u.meter_id AND m.ts > u.start AND m.ts <= u."end"
WHERE u.value > $floor
GROUP BY u.usage_point_id, u.channel, u.meter_id, u.start, u."end", u.value
HAVING count(*) >= $none_readings AND max(m.ampere) <= $none_a
