-- What meters say about their supply, one row a meter and time.
SELECT meter_id, ts, voltage_l1_v, voltage_l2_v, voltage_l3_v
FROM electricity
WHERE voltage_l1_v IS NOT NULL OR voltage_l2_v IS NOT NULL OR voltage_l3_v IS NOT NULL
ORDER BY meter_id, ts
