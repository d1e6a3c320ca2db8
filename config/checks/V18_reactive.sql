-- check: V18_reactive
-- about: active energy and no reactive all day though the meter counts it, or the other way round
-- severity: issue
-- on_fail: verify
-- scope: commodity = 'electricity'
-- param: floor = 10.0        -- days of less are passed over, in kWh or kvarh
WITH reactive AS (
  SELECT usage_point_id, meter_id, day, sum(value) AS used
  FROM usage_days
  WHERE start >= $from AND start < $to AND value IS NOT NULL
    AND channel IN ('reactive_import_kvarh', 'reactive_export_kvarh')
  GROUP BY usage_point_id, meter_id, day
), active AS (
  SELECT usage_point_id, meter_id, day, min(start) AS start, max("end") AS "end", sum(value) AS used,
         bool_or(quality IN ('estimated', 'estimated_scaled')) AS estimated
  FROM usage_days
  WHERE start >= $from AND start < $to AND value IS NOT NULL
    AND channel IN ('energy_import_kwh', 'energy_export_kwh')
  GROUP BY usage_point_id, meter_id, day
)
SELECT a.usage_point_id, 'reactive_import_kvarh' AS channel, a.meter_id, a.start, a."end",
       r.used AS measured, a.used AS reference, $floor AS "limit", a.estimated,
       concat(a.used, ' kWh and ', r.used, ' kvarh in a day') AS evidence
FROM active a
JOIN reactive r ON r.usage_point_id = a.usage_point_id AND r.meter_id = a.meter_id AND r.day = a.day
WHERE (a.used > $floor AND r.used = 0) OR (a.used = 0 AND r.used > $floor)
