-- By whose way a delivery goes, if not by its destination's own: chosen before anything is sent by it.
ALTER TABLE deliveries ADD COLUMN via TEXT;
CREATE INDEX deliveries_via ON deliveries (via, next_at, id) WHERE state = 'waiting' AND via IS NOT NULL;
-- By whose way an attempt was made.
ALTER TABLE attempts ADD COLUMN via TEXT;
