package pgtest

// What package artifact promises of files.
const (
	contentsSQL = `
SELECT format('artifact %s (%s, %s) has %s bytes that do not have its hash; it should have %s', a.id, a.path, a.state,
    COALESCE(octet_length(c.content), 0), a.size)
FROM artifacts a
LEFT JOIN (SELECT artifact_id, string_agg(data, '' ORDER BY number) AS content FROM artifact_chunks GROUP BY artifact_id) c ON c.artifact_id = a.id
WHERE a.state IN ('stored', 'complete') AND (sha256(COALESCE(c.content, '')) <> a.sha256 OR COALESCE(octet_length(c.content), 0) <> a.size)`

	chunksSQL = `
SELECT DISTINCT format('artifact %s has chunks and no row', c.artifact_id)
FROM artifact_chunks c LEFT JOIN artifacts a ON a.id = c.artifact_id WHERE a.id IS NULL`

	filesSQL = `
SELECT format('execution %s has %s artifacts and %s events of that', e.id, COALESCE(a.files, 0), COALESCE(v.events, 0))
FROM executions e
LEFT JOIN (SELECT execution_id, count(*) AS files FROM artifacts WHERE state = 'complete' AND checkpoint = 0 GROUP BY 1) a ON a.execution_id = e.id
LEFT JOIN (SELECT execution_id, count(*) AS events FROM execution_events WHERE type = 'artifact' GROUP BY 1) v ON v.execution_id = e.id
WHERE COALESCE(a.files, 0) <> COALESCE(v.events, 0)
UNION ALL
SELECT DISTINCT format('checkpoint %s of node run %s has %s events', a.checkpoint, a.node_run_id, COALESCE(v.events, 0))
FROM artifacts a
LEFT JOIN (SELECT execution_id, node_run_id, (data->>'number')::int AS number, count(*) AS events FROM execution_events WHERE type = 'checkpoint'
    GROUP BY 1, 2, 3) v ON v.execution_id = a.execution_id AND v.node_run_id = a.node_run_id AND v.number = a.checkpoint
WHERE a.state = 'complete' AND a.checkpoint > 0 AND COALESCE(v.events, 0) <> 1`
)
