-- Every request. The truth: all that follows can be rebuilt from it.
CREATE TABLE request (
    seq                  INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of saving; never used again after a purge
    id                   TEXT    NOT NULL,                  -- the caller may choose it, so it may repeat
    started_unix_ms      INTEGER NOT NULL,
    key                  TEXT,
    asked_model          TEXT    NOT NULL,
    stream               INTEGER NOT NULL,
    status               TEXT    NOT NULL,
    http_status          INTEGER NOT NULL,
    error                TEXT,
    task                 TEXT    NOT NULL,
    task_confidence      REAL    NOT NULL,
    strategy             TEXT    NOT NULL,
    provider             TEXT    NOT NULL,
    model                TEXT    NOT NULL,
    demo                 INTEGER NOT NULL,
    cache                TEXT    NOT NULL,
    failovers            INTEGER NOT NULL,
    prompt_tokens        INTEGER NOT NULL,
    completion_tokens    INTEGER NOT NULL,
    cached_tokens        INTEGER NOT NULL,
    reasoning_tokens     INTEGER NOT NULL,
    estimated_usage      INTEGER NOT NULL,
    cost_nano_usd        INTEGER,                           -- NULL: no known price; never 0 for that
    saved_by_cache_nano_usd   INTEGER,
    saved_by_routing_nano_usd INTEGER,
    first_token_ms       INTEGER,
    total_ms             INTEGER NOT NULL,
    reason               TEXT    NOT NULL,
    attempts             TEXT    NOT NULL,                  -- JSON
    decision             TEXT                               -- JSON, last: it is large and rarely read
) STRICT;

CREATE INDEX request_started ON request (started_unix_ms);
CREATE INDEX request_id ON request (id);

-- The last batch that each writer saved, so that a batch whose commit was not answered is not saved twice.
CREATE TABLE writer_run (
    run    BLOB    PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What usage is grouped by: one row per combination that ever occurred.
CREATE TABLE usage_label (
    label    INTEGER PRIMARY KEY,
    provider TEXT    NOT NULL,
    model    TEXT    NOT NULL,
    task     TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    strategy TEXT    NOT NULL,
    status   TEXT    NOT NULL,
    demo     INTEGER NOT NULL,
    UNIQUE (provider, model, task, key, strategy, status, demo)
) STRICT;

-- Sums per hour and per day (UTC) and label, encoded; see ledger/cell.rs.
CREATE TABLE usage_cell (
    step_ms INTEGER NOT NULL,                               -- 3600000 or 86400000
    start   INTEGER NOT NULL,                               -- Unix milliseconds
    label   INTEGER NOT NULL,
    cell    BLOB    NOT NULL,
    PRIMARY KEY (step_ms, start, label)
) STRICT, WITHOUT ROWID;

-- How far the sums reach: they hold the requests up to `summed_seq`. Requests before `kept_since_ms` were purged; their
-- sums stay and cannot be rebuilt.
CREATE TABLE usage_state (
    only          INTEGER PRIMARY KEY CHECK (only = 1),
    summed_seq    INTEGER NOT NULL,
    kept_since_ms INTEGER
) STRICT;

INSERT INTO usage_state VALUES (1, 0, NULL);
