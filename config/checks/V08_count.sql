-- check: V08_count
-- about: more readings than the civil day has slots, or far fewer
-- severity: issue
-- on_fail: keep
-- param: most_missing = 0.5  -- a share of the day's slots that may be missing (gaps are V09)
SELECT usage_point_id, '' AS channel, meter_id, first_reading AS start, last_reading AS "end",
       readings AS measured, expected AS "limit",
       concat(day, ': ', readings, ' readings where ', expected, ' are due') AS evidence
FROM completeness
WHERE month = $month AND closed AND first_reading IS NOT NULL AND interval_from <> 'assumed'
  AND (readings > expected OR missing > $most_missing * expected)
