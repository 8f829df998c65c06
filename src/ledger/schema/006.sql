-- How often a held destination was probed in vain: a restart goes on where the last process was.
ALTER TABLE destinations ADD COLUMN paused_times INTEGER NOT NULL DEFAULT 0;
