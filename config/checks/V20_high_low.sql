-- check: V20_high_low
-- about: a bill whose average day is far above or below that of the same customer's days before
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
), compared AS (
  -- Products instead of quotients: exactly twice as much is let pass.
  SELECT b.usage_point_id, b.channel, b.start, b."end", b.use_amount, b.days_covered, b.estimated_share_ppm,
         h.used, h.days,
         CAST(b.use_amount * h.days AS DECIMAL(38, 12)) AS now,
         CAST($high * h.used * b.days_covered AS DECIMAL(38, 12)) AS most,
         CAST($low * h.used * b.days_covered AS DECIMAL(38, 12)) AS least
  FROM bill b
  JOIN before h ON h.usage_point_id = b.usage_point_id AND h.channel = b.channel
  WHERE h.days >= $min_valid_share * $days AND h.used > 0
)
SELECT usage_point_id, channel, start, "end",
       use_amount / days_covered AS measured, used / days AS reference,
       CASE WHEN now > most THEN $high * used / days ELSE $low * used / days END AS "limit",
       estimated_share_ppm >= 500000 AS estimated,
       concat(use_amount, ' in ', days_covered, ' days, ', used, ' in ', days, ' days before') AS evidence
FROM compared
WHERE now > most OR now < least
