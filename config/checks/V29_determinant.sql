-- check: V29_determinant
-- about: a figure of a bill that is negative, or far from that of the bill before
-- severity: stop
-- on_fail: hold
-- param: high = 5.0          -- times the figure before
-- param: low = 0.1
-- param: floor = 10.0        -- figures that are both smaller are not compared
WITH now AS (
  SELECT * FROM billing_determinants WHERE month = $month AND value IS NOT NULL
), before AS (
  SELECT usage_point_id, determinant, part, last_day, value
  FROM billing_determinants
  WHERE "end" > $from - INTERVAL '3 days' AND start < $to AND value IS NOT NULL
)
SELECT n.usage_point_id, '' AS channel, n.start, n."end", n.value AS measured, b.value AS reference,
       CASE WHEN n.value < 0 AND n.kind <> 'formula' THEN 0
            WHEN n.value > b.value THEN $high * b.value ELSE $low * b.value END AS "limit",
       concat(n.determinant, CASE WHEN n.part = '' THEN '' ELSE concat('/', n.part) END, ' is ', n.value,
              CASE WHEN b.value IS NULL THEN '' ELSE concat(', it was ', b.value) END) AS evidence
FROM now n
LEFT JOIN before b ON b.usage_point_id = n.usage_point_id AND b.determinant = n.determinant AND b.part = n.part
 AND CAST(b.last_day AS INT) = CAST(n.first_day AS INT) - 1
WHERE (n.value < 0 AND n.kind <> 'formula')
   OR (n.kind <> 'boundary' AND greatest(abs(n.value), abs(b.value)) > $floor AND b.value > 0
       AND (n.value > $high * b.value OR n.value < $low * b.value))
