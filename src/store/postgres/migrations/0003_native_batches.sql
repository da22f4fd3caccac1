-- Lines of batches that a provider answers in a batch of its own.

-- The part that waits for a line's answer; as long as one does, no worker claims the line.
ALTER TABLE job ADD COLUMN carried_by text COLLATE "C";
CREATE INDEX job_carried ON job (carried_by, place) WHERE carried_by IS NOT NULL;

-- What the caller wants of providers' own batches; NULL: as the configuration says.
ALTER TABLE batch ADD COLUMN native text;

-- What was bought at other than the usual terms, in OpenAI's word: `batch`. NULL: at the usual ones.
ALTER TABLE request ADD COLUMN service_tier text;

-- What goes to one model of one provider together.
CREATE TABLE native_part (
    seq               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                text    COLLATE "C" NOT NULL UNIQUE,  -- of the job that takes care of it, too
    batch             text    COLLATE "C" NOT NULL,
    provider          text    NOT NULL,
    model             text    NOT NULL,
    phase             text    NOT NULL,
    discount          bigint NOT NULL,                     -- in millionths
    remote_file       text,
    remote_batch      text,
    sent              bigint NOT NULL,                     -- lines
    worst_nano_usd    bigint,                              -- the most that they can cost; NULL: no known price
    tokens            bigint NOT NULL,                     -- that they are expected to take
    spent_nano_usd    bigint NOT NULL DEFAULT 0,           -- by those that have ended
    used_tokens       bigint NOT NULL DEFAULT 0,
    holder            text,                                 -- the server that holds its money
    created_unix_ms   bigint NOT NULL,
    submitted_unix_ms bigint,
    ended_unix_ms     bigint
);

CREATE INDEX native_part_batch ON native_part (batch, seq);
CREATE INDEX native_part_open ON native_part (seq) WHERE ended_unix_ms IS NULL;
