-- Completeness by meter and day, what lacks most first.
SELECT day, meter_id, usage_point_id, expected, received, missing, late, last_reading, longest_gap_s, clock_offset_s,
       source, gateway_id, reason, reason_subject
FROM completeness
WHERE day >= $from AND day < $to AND ($meter = '' OR meter_id = $meter) AND (missing > 0 OR $missing_only = FALSE)
ORDER BY missing DESC, day, meter_id
