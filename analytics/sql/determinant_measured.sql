-- Demands of earlier cycles, for ratchets.
SELECT usage_point_id, determinant, month, value
FROM billing_determinants
WHERE part = 'measured'
ORDER BY usage_point_id, determinant, part, start
