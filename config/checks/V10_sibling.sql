-- check: V10_sibling
-- about: a channel of the installation that says nothing on a day on which another one speaks
-- severity: issue
-- on_fail: keep
WITH spoke AS (
  SELECT usage_point_id, meter_id, channel, day, start, "end"
  FROM usage_days
  WHERE start >= $from AND start < $to AND value IS NOT NULL AND slots_valid + slots_derived + slots_verified > 0
), days AS (
  SELECT usage_point_id, meter_id, day, min(start) AS start, max("end") AS "end", min(channel) AS other
  FROM spoke GROUP BY usage_point_id, meter_id, day
)
SELECT d.usage_point_id, c.channel, d.meter_id, min(d.start) AS start, max(d."end") AS "end",
       count(*) AS measured, concat('silent on ', count(*), ' days on which ', min(d.other), ' speaks') AS evidence
FROM days d
JOIN channels c ON c.usage_point_id = d.usage_point_id AND c.meter_id = d.meter_id AND c.counts
LEFT JOIN spoke s ON s.usage_point_id = d.usage_point_id AND s.meter_id = d.meter_id AND s.day = d.day
 AND s.channel = c.channel
WHERE s.day IS NULL
GROUP BY d.usage_point_id, c.channel, d.meter_id
