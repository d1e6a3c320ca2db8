-- check: V28_load_hours
-- about: more use than the capacity on file gives in all hours of the cycle
-- severity: issue
-- on_fail: verify
WITH capacity AS (
  SELECT usage_point_id, channel, max(capacity_per_hour) AS an_hour
  FROM channels
  WHERE capacity_per_hour > 0 AND (installed_at IS NULL OR installed_at < $to) AND (removed_at IS NULL OR removed_at > $from)
  GROUP BY usage_point_id, channel
)
SELECT b.usage_point_id, b.channel, b.start, b."end", b.use_amount / c.an_hour AS measured, c.an_hour AS reference,
       (CAST(b."end" AS BIGINT) - CAST(b.start AS BIGINT)) / 3600000000 AS "limit",
       concat(b.use_amount, ' at ', c.an_hour, ' an hour') AS evidence
FROM billing_reads b
JOIN capacity c ON c.usage_point_id = b.usage_point_id AND c.channel = b.channel
WHERE b.month = $month AND b.use_amount IS NOT NULL
  AND b.use_amount * 3600000000 > c.an_hour * (CAST(b."end" AS BIGINT) - CAST(b.start AS BIGINT))
