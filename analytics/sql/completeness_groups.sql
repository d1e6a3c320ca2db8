-- Completeness by day, source or gateway, what lacks most first.
SELECT *
FROM (
  SELECT name, count(DISTINCT meter_id) AS meters, sum(expected) AS expected, sum(received) AS received,
         sum(missing) AS missing, sum(late) AS late
  FROM (
    SELECT CASE $by WHEN 'day' THEN CAST(day AS VARCHAR) WHEN 'line' THEN source ELSE gateway_id END AS name,
           meter_id, CAST(expected AS BIGINT) AS expected, CAST(received AS BIGINT) AS received,
           CAST(missing AS BIGINT) AS missing, CAST(late AS BIGINT) AS late
    FROM completeness
    WHERE day >= $from AND day < $to AND ($meter = '' OR meter_id = $meter))
  GROUP BY name)
WHERE missing > 0 OR $missing_only = FALSE
ORDER BY missing DESC, name
