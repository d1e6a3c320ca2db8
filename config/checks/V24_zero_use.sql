-- check: V24_zero_use
-- about: no use for many days where somebody is billed, and supply was there
-- severity: issue
-- on_fail: work_item
-- scope: active and channel in ('energy_import_kwh', 'energy_import_delta_kwh', 'volume_m3', 'volume_delta_m3')
-- param: days_electricity = 7
-- param: days_water = 30
WITH outage AS (
  SELECT meter_id, event, ts AS gone, lead(ts) OVER (PARTITION BY meter_id ORDER BY ts) AS back
  FROM meter_events
  WHERE event IN ('last_gasp', 'restoration') AND ts >= $from - INTERVAL '100 days' AND ts < $to
), dark AS (
  SELECT DISTINCT d.usage_point_id, d.channel, d.day
  FROM usage_days d
  JOIN outage o ON o.meter_id = d.meter_id AND o.event = 'last_gasp'
   AND o.gone < d."end" AND (o.back IS NULL OR o.back > d.start)
  WHERE d.start >= $from - INTERVAL '40 days' AND d.start < $to
), zero AS (
  SELECT d.usage_point_id, d.channel, d.meter_id, d.day, d.start, d."end"
  FROM usage_days d
  LEFT JOIN dark ON dark.usage_point_id = d.usage_point_id AND dark.channel = d.channel AND dark.day = d.day
  WHERE d.start >= $from - INTERVAL '40 days' AND d.start < $to AND d.value = 0
    AND d.quality IN ('valid', 'verified', 'derived') AND dark.day IS NULL
), rowed AS (
  SELECT *, CAST(day AS INT) - CAST(dense_rank() OVER (PARTITION BY usage_point_id, channel ORDER BY day) AS INT) AS row_of
  FROM zero
)
SELECT r.usage_point_id, r.channel, max(r.meter_id) AS meter_id, min(r.start) AS start, max(r."end") AS "end",
       count(DISTINCT r.day) AS measured,
       max(CASE p.commodity WHEN 'water' THEN $days_water ELSE $days_electricity END) AS "limit",
       concat('no use on ', count(DISTINCT r.day), ' days') AS evidence
FROM rowed r
JOIN points p ON p.usage_point_id = r.usage_point_id
GROUP BY r.usage_point_id, r.channel, r.row_of
HAVING max(r."end") > $from
   AND count(DISTINCT r.day) >= max(CASE p.commodity WHEN 'water' THEN $days_water ELSE $days_electricity END)
