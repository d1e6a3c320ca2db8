-- Why readings are missing, what explains most first. What a meter's main reason does not explain is not counted.
SELECT reason, reason_subject, count(DISTINCT meter_id) AS meters, sum(CAST(explained AS BIGINT)) AS missing
FROM completeness
WHERE day >= $from AND day < $to AND ($meter = '' OR meter_id = $meter) AND reason IS NOT NULL
GROUP BY reason, reason_subject
ORDER BY missing DESC, reason, reason_subject
