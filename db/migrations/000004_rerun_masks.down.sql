DROP FUNCTION masks_needed(uuid, uuid);
