-- check: V16_tariffs
-- about: tariff registers that do not add up to the total
-- severity: stop
-- on_fail: hold
-- scope: commodity = 'electricity'
-- param: share = 0.01        -- so much of the total is let pass
-- param: least = 0.002       -- and never less than this, in the unit
WITH parts AS (
  SELECT usage_point_id, first_day, sum(use_amount) AS used, count(*) AS registers
  FROM billing_reads
  WHERE month = $month AND use_amount IS NOT NULL
    AND channel IN ('energy_import_t1_kwh', 'energy_import_t2_kwh', 'energy_import_t3_kwh', 'energy_import_t4_kwh')
  GROUP BY usage_point_id, first_day
)
SELECT w.usage_point_id, w.channel, w.start, w."end", p.used AS measured, w.use_amount AS reference,
       greatest($share * w.use_amount, $least) AS "limit", w.estimated > 0 AS estimated,
       concat(p.registers, ' tariff registers say ', p.used, ', the total says ', w.use_amount) AS evidence
FROM billing_reads w
JOIN parts p ON p.usage_point_id = w.usage_point_id AND p.first_day = w.first_day
WHERE w.month = $month AND w.channel = 'energy_import_kwh' AND w.use_amount IS NOT NULL
  AND abs(p.used - w.use_amount) > greatest($share * w.use_amount, $least)
