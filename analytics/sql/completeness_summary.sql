-- Completeness by commodity, as a whole.
SELECT commodity, sum(CAST(expected AS BIGINT)) AS expected, sum(CAST(received AS BIGINT)) AS received,
       count(DISTINCT meter_id) AS meters,
       count(DISTINCT CASE WHEN late > 0 THEN meter_id END) AS late_meters,
       count(DISTINCT CASE WHEN expected > 0 AND received = 0 THEN meter_id END) AS silent_meters
FROM completeness
WHERE day >= $from AND day < $to AND ($meter = '' OR meter_id = $meter)
GROUP BY commodity
ORDER BY commodity
