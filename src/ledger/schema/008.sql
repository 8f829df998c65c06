-- Versions of senders that nobody vouches for: they add notes, and never count as the newest.

ALTER TABLE versions ADD COLUMN note_only INTEGER NOT NULL DEFAULT 0;
-- The number of the last such version; `newest` is 0 while there is no other one.
ALTER TABLE sessions ADD COLUMN newest_note INTEGER;
