-- Text that callers wrote may hold anything but a zero byte, which is replaced. JSON is kept as text: it is never queried,
-- and jsonb refuses what callers may write. Times are Unix milliseconds, as every server's clock has them.

-- One row per life of a server's ledger: who wrote, and the last batch that it saved, so that a batch whose commit was not
-- answered is not saved twice.
CREATE TABLE writer (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run                 uuid   NOT NULL UNIQUE,
    number              bigint NOT NULL,
    service_instance_id text   NOT NULL
);

CREATE SEQUENCE request_batch;

-- Every request. The truth: all sums can be made again from it.
CREATE TABLE request (
    batch                bigint  NOT NULL,                  -- rows saved together; numbers may have gaps
    position             bigint  NOT NULL,                  -- their order in it, from 1
    writer               bigint  NOT NULL,                  -- of `writer`
    id                   text    COLLATE "C" NOT NULL,      -- the caller may choose it, so it may repeat
    started_unix_ms      bigint  NOT NULL,
    key                  text,
    team                 text,
    tier                 text,
    tags                 text    NOT NULL,                  -- comma separated
    asked_model          text    NOT NULL,
    stream               boolean NOT NULL,
    status               text    NOT NULL,
    http_status          bigint  NOT NULL,
    error                text,
    task                 text    NOT NULL,
    task_confidence      double precision NOT NULL,
    strategy             text    NOT NULL,
    provider             text    NOT NULL,
    model                text    NOT NULL,
    demo                 boolean NOT NULL,
    cache                text    NOT NULL,
    failovers            bigint  NOT NULL,
    prompt_tokens        bigint  NOT NULL,
    completion_tokens    bigint  NOT NULL,
    cached_tokens        bigint  NOT NULL,
    reasoning_tokens     bigint  NOT NULL,
    estimated_usage      boolean NOT NULL,
    cost_nano_usd        bigint,                            -- NULL: no known price; never 0 for that
    saved_by_cache_nano_usd   bigint,
    saved_by_routing_nano_usd bigint,
    first_token_ms       bigint,
    total_ms             bigint  NOT NULL,
    reason               text    NOT NULL,
    attempts             text    NOT NULL,                  -- JSON
    trace_id             text,                              -- hexadecimal digits
    guards               text,                              -- names and counts
    decision             text,                              -- JSON
    PRIMARY KEY (batch, position)
);

CREATE INDEX request_started ON request (started_unix_ms, id);
CREATE INDEX request_id ON request (id);

-- Batches that no sum holds yet. Saved with their rows and taken away with their sums, so that each counts once whichever
-- server sums it, and in whatever order batches became visible.
CREATE TABLE unsummed_batch (
    batch bigint PRIMARY KEY
);

-- What usage is grouped by: one row per combination that ever occurred.
CREATE TABLE usage_label (
    label    bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest   bytea   NOT NULL UNIQUE,                       -- of all that follows, which may be longer than an index takes
    provider text    NOT NULL,
    model    text    NOT NULL,
    task     text    NOT NULL,
    key      text    NOT NULL,
    team     text    NOT NULL,
    tier     text    NOT NULL,
    tags     text    NOT NULL,
    strategy text    NOT NULL,
    status   text    NOT NULL,
    demo     boolean NOT NULL
);

-- Sums per hour and per day (UTC) and label, encoded; see ledger/cell.rs.
CREATE TABLE usage_cell (
    step_ms bigint NOT NULL,                                -- 3600000 or 86400000
    start   bigint NOT NULL,                                -- Unix milliseconds
    label   bigint NOT NULL,
    cell    bytea  NOT NULL,
    PRIMARY KEY (step_ms, start, label)
);

-- Requests before `kept_since_ms` were purged; their sums stay and cannot be made again. Whoever changes sums holds the lock
-- of this one row.
CREATE TABLE usage_state (
    one           integer PRIMARY KEY CHECK (one = 1),
    kept_since_ms bigint
);

INSERT INTO usage_state VALUES (1, NULL);

-- Keys of callers. The text of a key is nowhere, only its keyed hash.
CREATE TABLE access_key (
    id              text   PRIMARY KEY,
    name            text   NOT NULL UNIQUE,                 -- also those of revoked keys: reports go by name
    tier            text,
    team            text,
    role            text   NOT NULL,
    tags            text   NOT NULL,                        -- comma separated
    limits          text   NOT NULL,                        -- JSON
    created_unix_ms bigint NOT NULL,
    expires_unix_ms bigint,
    revoked_unix_ms bigint
);

-- One per text; a rotated key has several.
CREATE TABLE access_secret (
    digest          bytea  PRIMARY KEY,
    key             text   NOT NULL REFERENCES access_key (id),
    ending          text   NOT NULL,
    created_unix_ms bigint NOT NULL,
    expires_unix_ms bigint
);

-- Counts the changes, so that running servers see them; tells whether a secret is the one under which the keys are hashed;
-- and holds that secret, if nobody configured one.
CREATE TABLE access_state (
    one         integer PRIMARY KEY CHECK (one = 1),
    version     bigint  NOT NULL,
    fingerprint bytea,
    secret      text
);

INSERT INTO access_state VALUES (1, 0, NULL, NULL);

-- Requests with an idempotency key, for a day. Neither key nor caller is here, only their hash; the answer is encrypted
-- under the key.
CREATE TABLE idempotent_request (
    place         bytea  PRIMARY KEY,
    fingerprint   bytea  NOT NULL,
    began_unix_ms bigint NOT NULL,
    mark          uuid   NOT NULL,                          -- whose: one that came too late is taken back
    answer        bytea                                     -- NULL: begun, and the end is not known
);

CREATE INDEX idempotent_request_began ON idempotent_request (began_unix_ms);
