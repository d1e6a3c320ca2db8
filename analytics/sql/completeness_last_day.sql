-- The newest civil day of which no reading is to come in time any more.
SELECT max(day) AS day
FROM (SELECT day, bool_and(closed) AS closed FROM completeness GROUP BY day)
WHERE closed
