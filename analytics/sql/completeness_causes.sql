-- Missing readings by commodity and reason: few rows, for metrics.
SELECT commodity, reason, sum(CAST(explained AS BIGINT)) AS missing
FROM completeness
WHERE day >= $from AND day < $to AND reason IS NOT NULL
GROUP BY commodity, reason
ORDER BY commodity, reason
