-- name: FileInsert :copyfrom
INSERT INTO workflow_files (workflow_id, version, path, executable, content) VALUES (@workflow_id, @version, @path, @executable, @content);

-- name: FileList :many
SELECT path, executable, content FROM workflow_files WHERE workflow_id = @workflow_id AND version = @version ORDER BY path;

-- name: FileListNames :many
SELECT path, executable, octet_length(content)::bigint AS size FROM workflow_files
WHERE workflow_id = @workflow_id AND version = @version ORDER BY path;
