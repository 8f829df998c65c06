-- The end of what is finished: what sessions said and what was sent of them goes, the rows and their digests stay.

-- Since when its documents and evidence are gone. Null while they are there, and again once a newer version came.
ALTER TABLE sessions ADD COLUMN content_removed_at INTEGER;
-- Since when the requests and answers of its attempts are gone.
ALTER TABLE deliveries ADD COLUMN exchanges_removed_at INTEGER;
