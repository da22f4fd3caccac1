-- What has happened, in order. Appended to, never changed; what is too old goes as a whole.
CREATE TABLE event (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at_unix_ms INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    key        TEXT,
    facts      TEXT    NOT NULL                            -- JSON; no prompt, no answer
) STRICT;

CREATE INDEX event_subject ON event (subject, seq);
CREATE INDEX event_at ON event (at_unix_ms);

-- Requests to be answered later. The status is a projection of the events and changes with them, in one transaction.
CREATE TABLE job (
    seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT    NOT NULL UNIQUE,
    kind                TEXT    NOT NULL,
    status              TEXT    NOT NULL,
    key                 TEXT,
    part_of             TEXT,                               -- a batch or a saga
    place               INTEGER,                            -- in there
    priority            INTEGER NOT NULL,
    attempts            INTEGER NOT NULL DEFAULT 0,
    max_attempts        INTEGER NOT NULL,
    created_unix_ms     INTEGER NOT NULL,
    not_before_unix_ms  INTEGER NOT NULL,
    expires_unix_ms     INTEGER,
    ended_unix_ms       INTEGER,
    worker              TEXT,
    fence               INTEGER NOT NULL DEFAULT 0,         -- counts the claims: only the newest may end the job
    lease_until_unix_ms INTEGER,
    http_status         INTEGER,
    error               TEXT,
    webhook             INTEGER NOT NULL,
    request             BLOB    NOT NULL,                   -- sealed
    result              BLOB                                -- sealed
) STRICT;

CREATE INDEX job_due ON job (priority DESC, not_before_unix_ms, seq) WHERE status = 'queued';
CREATE INDEX job_expiring ON job (expires_unix_ms) WHERE status = 'queued';
CREATE INDEX job_leased ON job (lease_until_unix_ms) WHERE status = 'running';
CREATE INDEX job_part ON job (part_of, place) WHERE part_of IS NOT NULL;
CREATE INDEX job_ended ON job (ended_unix_ms) WHERE ended_unix_ms IS NOT NULL;
CREATE INDEX job_status ON job (status, seq);

-- Files of callers and of batches, in sealed pieces.
CREATE TABLE file (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT    NOT NULL UNIQUE,
    key             TEXT,
    name            TEXT    NOT NULL,
    purpose         TEXT    NOT NULL,
    bytes           INTEGER NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER,
    whole           INTEGER NOT NULL                        -- 0: it is still being written
) STRICT;

CREATE TABLE file_piece (
    file    TEXT    NOT NULL,
    place   INTEGER NOT NULL,
    content BLOB    NOT NULL,
    PRIMARY KEY (file, place)
) STRICT, WITHOUT ROWID;

-- Many requests, read from a file, answered into another one.
CREATE TABLE batch (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT    NOT NULL UNIQUE,
    key               TEXT,
    endpoint          TEXT    NOT NULL,
    input_file        TEXT    NOT NULL,
    completion_window TEXT    NOT NULL,
    status            TEXT    NOT NULL,
    total             INTEGER NOT NULL DEFAULT 0,
    completed         INTEGER NOT NULL DEFAULT 0,
    failed            INTEGER NOT NULL DEFAULT 0,
    output_file       TEXT,
    error_file        TEXT,
    errors            TEXT,                                 -- JSON
    metadata          TEXT,                                 -- JSON
    owner             BLOB    NOT NULL,                     -- sealed: whose limits and budgets it goes by
    created_unix_ms   INTEGER NOT NULL,
    expires_unix_ms   INTEGER NOT NULL,
    started_unix_ms   INTEGER,
    finalizing_unix_ms INTEGER,
    cancelling_unix_ms INTEGER,
    ended_unix_ms     INTEGER
) STRICT;
