-- check: V25_inactive_use
-- about: use where nobody is billed: no customer, or an account that is not active
-- severity: issue
-- on_fail: work_item
-- param: allowed = 1.0       -- so much a month is let pass, in the unit
SELECT d.usage_point_id, d.channel, max(d.meter_id) AS meter_id, min(d.start) AS start, max(d."end") AS "end",
       sum(d.value) AS measured, $allowed AS "limit", sum(d.estimated) * 2 > sum(d.value) AS estimated,
       concat(sum(d.value), ' used, and ', CASE WHEN bool_and(p.active) THEN 'there is no customer' ELSE 'the account is not active' END)
         AS evidence
FROM usage_days d
JOIN points p ON p.usage_point_id = d.usage_point_id AND (p.customer_id IS NULL OR NOT p.active)
WHERE d.start >= $from AND d.start < $to AND d.value IS NOT NULL
  AND d.channel IN ('energy_import_kwh', 'energy_import_delta_kwh', 'volume_m3', 'volume_delta_m3')
GROUP BY d.usage_point_id, d.channel
HAVING sum(d.value) > $allowed
