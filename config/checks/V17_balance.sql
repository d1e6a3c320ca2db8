-- check: V17_balance
-- about: a meter that counts other than all the meters below it, or its check meter
-- severity: issue
-- on_fail: keep
-- param: share = 0.03        -- so much of the upper meter's use is let pass: losses
-- param: least = 1.0         -- and never less than this, in the unit
WITH used AS (
  SELECT usage_point_id, channel, day, sum(value) AS value, min(start) AS start, max("end") AS "end",
         bool_or(quality IN ('estimated', 'estimated_scaled')) AS estimated
  FROM usage_days
  WHERE start >= $from AND start < $to AND value IS NOT NULL AND channel IN ('energy_import_kwh', 'volume_m3')
  GROUP BY usage_point_id, channel, day
), below AS (
  SELECT p.parent_id, u.channel, u.day, sum(u.value) AS value, count(*) AS meters, bool_or(u.estimated) AS estimated
  FROM points p
  JOIN used u ON u.usage_point_id = p.usage_point_id
  WHERE p.parent_id IS NOT NULL
  GROUP BY p.parent_id, u.channel, u.day
), children AS (
  SELECT parent_id, count(*) AS all_of_them FROM points WHERE parent_id IS NOT NULL GROUP BY parent_id
), month AS (
  -- Only days on which all of them are known: what one lacks would be taken for a loss.
  SELECT u.usage_point_id, u.channel, min(u.start) AS start, max(u."end") AS "end", sum(u.value) AS value,
         sum(b.value) AS below, count(*) AS days, bool_or(u.estimated OR b.estimated) AS estimated
  FROM used u
  JOIN below b ON b.parent_id = u.usage_point_id AND b.channel = u.channel AND b.day = u.day
  JOIN children c ON c.parent_id = u.usage_point_id AND c.all_of_them = b.meters
  GROUP BY u.usage_point_id, u.channel
)
SELECT usage_point_id, channel, start, "end", below AS measured, value AS reference,
       greatest($share * value, $least) AS "limit", estimated,
       concat(value, ' above and ', below, ' below on ', days, ' days') AS evidence
FROM month
WHERE abs(value - below) > greatest($share * value, $least)
