ALTER TABLE sandboxes DROP COLUMN files_version;
