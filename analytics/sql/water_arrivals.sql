-- When readings of water came, one row a meter, time and revision.
SELECT meter_id, ts, received_at, source, flags
FROM water_readings
WHERE ts >= $from AND ts < $to
ORDER BY meter_id, ts
