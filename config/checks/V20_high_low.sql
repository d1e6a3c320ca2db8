-- check: V20_high_low
-- about: a bill whose average day is far from that of the same customer's days before, and from last year's where that is known
-- severity: issue
-- on_fail: verify
-- scope: commodity in ('electricity', 'water')
-- param: days = 28           -- the average is taken over so many days before the cycle
-- param: low = 0.50
-- param: high = 2.00
-- param: floor = 1.0         -- bills of less are passed over, in the unit
-- param: min_valid_share = 0.8
WITH bill AS (
  SELECT usage_point_id, channel, start, "end", first_day, use_amount, days_covered, estimated_share_ppm
  FROM billing_reads
  WHERE month = $month AND use_amount > $floor AND days_covered > 0
), daily AS (
  SELECT b.usage_point_id, b.channel, d.day, sum(d.value) AS used
  FROM bill b
  JOIN usage_days d ON d.usage_point_id = b.usage_point_id AND d.channel = b.channel
   AND d.start < b.start AND CAST(d.day AS INT) >= CAST(b.first_day AS INT) - $days
  JOIN points p ON p.usage_point_id = d.usage_point_id AND (p.customer_since IS NULL OR d.start >= p.customer_since)
  WHERE d.start >= $from - INTERVAL '130 days' AND d.start < $to
    AND d.value IS NOT NULL AND d.quality IN ('valid', 'verified', 'derived')
  GROUP BY b.usage_point_id, b.channel, d.day
), before AS (
  SELECT usage_point_id, channel, CAST(sum(used) AS DECIMAL(28, 6)) AS used, count(*) AS days
  FROM daily
  GROUP BY usage_point_id, channel
  HAVING count(*) >= $min_valid_share * $days AND sum(used) > 0
), year_before AS (
  -- The bill that began at the same time of the year, give or take a week.
  SELECT b.usage_point_id, b.channel, CAST(sum(y.use_amount) AS DECIMAL(28, 6)) AS used, sum(y.days_covered) AS days
  FROM bill b
  JOIN billing_reads y ON y.usage_point_id = b.usage_point_id AND y.channel = b.channel
   AND CAST(b.first_day AS INT) - CAST(y.first_day AS INT) BETWEEN 358 AND 373
  JOIN points p ON p.usage_point_id = y.usage_point_id AND (p.customer_since IS NULL OR y.start >= p.customer_since)
  WHERE y.start >= $from - INTERVAL '510 days' AND y.start < $to - INTERVAL '356 days'
    AND y.use_amount > 0 AND y.days_covered > 0 AND y.estimated_share_ppm < 500000
  GROUP BY b.usage_point_id, b.channel
), compared AS (
  -- Products instead of quotients: exactly twice as much is let pass.
  SELECT b.*, h.used, h.days, y.used AS used_then, y.days AS days_then,
         coalesce(h.used, y.used) AS reference, coalesce(h.days, y.days) AS reference_days,
         CAST(b.use_amount * h.days AS DECIMAL(38, 12)) AS now,
         CAST($high * h.used * b.days_covered AS DECIMAL(38, 12)) AS most,
         CAST($low * h.used * b.days_covered AS DECIMAL(38, 12)) AS least,
         CAST(b.use_amount * y.days AS DECIMAL(38, 12)) AS now_then,
         CAST($high * y.used * b.days_covered AS DECIMAL(38, 12)) AS most_then,
         CAST($low * y.used * b.days_covered AS DECIMAL(38, 12)) AS least_then
  FROM bill b
  LEFT JOIN before h ON h.usage_point_id = b.usage_point_id AND h.channel = b.channel
  LEFT JOIN year_before y ON y.usage_point_id = b.usage_point_id AND y.channel = b.channel
)
SELECT usage_point_id, channel, start, "end",
       use_amount / days_covered AS measured, reference / reference_days AS reference,
       CASE WHEN coalesce(now > most, now_then > most_then) THEN $high * reference / reference_days
            ELSE $low * reference / reference_days END AS "limit",
       estimated_share_ppm >= 500000 AS estimated,
       concat(use_amount, ' in ', days_covered, ' days',
              CASE WHEN used IS NULL THEN '' ELSE concat(', ', used, ' in ', days, ' days before') END,
              CASE WHEN used_then IS NULL THEN '' ELSE concat(', ', used_then, ' in ', days_then, ' days a year before') END
       ) AS evidence
FROM compared
-- A season is no news: what is as last year, or as the days before, is let pass.
WHERE (used IS NOT NULL OR used_then IS NOT NULL)
  AND (used IS NULL OR now > most OR now < least)
  AND (used_then IS NULL OR now_then > most_then OR now_then < least_then)
