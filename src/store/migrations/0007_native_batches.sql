-- Lines of batches that a provider answers in a batch of its own.

-- The part that waits for a line's answer; as long as one does, no worker claims the line.
ALTER TABLE job ADD COLUMN carried_by TEXT;
CREATE INDEX job_carried ON job (carried_by, place) WHERE carried_by IS NOT NULL;

-- What the caller wants of providers' own batches; NULL: as the configuration says.
ALTER TABLE batch ADD COLUMN native TEXT;

-- What was bought at other than the usual terms, in OpenAI's word: `batch`. NULL: at the usual ones.
ALTER TABLE request ADD COLUMN service_tier TEXT;

-- What goes to one model of one provider together.
CREATE TABLE native_part (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT    NOT NULL UNIQUE,              -- of the job that takes care of it, too
    batch             TEXT    NOT NULL,
    provider          TEXT    NOT NULL,
    model             TEXT    NOT NULL,
    phase             TEXT    NOT NULL,
    discount          INTEGER NOT NULL,                     -- in millionths
    remote_file       TEXT,
    remote_batch      TEXT,
    sent              INTEGER NOT NULL,                     -- lines
    worst_nano_usd    INTEGER,                              -- the most that they can cost; NULL: no known price
    tokens            INTEGER NOT NULL,                     -- that they are expected to take
    spent_nano_usd    INTEGER NOT NULL DEFAULT 0,           -- by those that have ended
    used_tokens       INTEGER NOT NULL DEFAULT 0,
    holder            TEXT,                                 -- the server that holds its money
    created_unix_ms   INTEGER NOT NULL,
    submitted_unix_ms INTEGER,
    ended_unix_ms     INTEGER
) STRICT;

CREATE INDEX native_part_batch ON native_part (batch, seq);
CREATE INDEX native_part_open ON native_part (seq) WHERE ended_unix_ms IS NULL;
