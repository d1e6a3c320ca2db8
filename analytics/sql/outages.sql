-- Loss and return of supply as the meters report them, in the order of the table.
SELECT meter_id, ts, event
FROM meter_events
WHERE event IN ('last_gasp', 'restoration')
ORDER BY meter_id, ts, event
