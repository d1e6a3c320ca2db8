-- What people did about alerts, in the order in which it was taken down.
SELECT alert_id, ts, step, person, note
FROM alert_events
WHERE origin = 'person'
ORDER BY alert_id, ts, step
