-- Requests that are answered later, for all servers. What callers wrote is sealed, so that nobody compresses it once more.

-- Places in the log. A transaction says how far it had come before it draws from it; see events.rs.
CREATE SEQUENCE event_place;

-- What has happened, in order. Appended to, never changed; what is too old goes as a whole.
CREATE TABLE event (
    seq        bigint PRIMARY KEY DEFAULT nextval('event_place'),
    at_unix_ms bigint NOT NULL,
    kind       text   NOT NULL,
    subject    text   COLLATE "C" NOT NULL,
    key        text,
    facts      text   NOT NULL                              -- JSON; no prompt, no answer
);

CREATE INDEX event_subject ON event (subject, seq);
CREATE INDEX event_at ON event (at_unix_ms);

-- Requests to be answered later. The status is a projection of the events and changes with them, in one transaction. Times
-- that decide are the database's clock.
CREATE TABLE job (
    seq                 bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                  text    COLLATE "C" NOT NULL UNIQUE,
    kind                text    NOT NULL,
    status              text    NOT NULL,
    key                 text,
    part_of             text    COLLATE "C",                -- a batch or a saga
    place               bigint,                             -- in there
    priority            smallint NOT NULL,
    attempts            bigint  NOT NULL DEFAULT 0,
    max_attempts        bigint  NOT NULL,
    created_unix_ms     bigint  NOT NULL,
    not_before_unix_ms  bigint  NOT NULL,
    expires_unix_ms     bigint,
    ended_unix_ms       bigint,
    worker              text,
    fence               bigint  NOT NULL DEFAULT 0,         -- counts the claims: only the newest may end the job
    lease_until_unix_ms bigint,
    http_status         bigint,
    error               text,
    webhook             boolean NOT NULL,
    request             bytea   NOT NULL,                   -- sealed
    result              bytea                               -- sealed
);

ALTER TABLE job ALTER request SET STORAGE EXTERNAL;
ALTER TABLE job ALTER result SET STORAGE EXTERNAL;
CREATE INDEX job_due ON job (priority DESC, not_before_unix_ms, seq) WHERE status = 'queued';
CREATE INDEX job_expiring ON job (expires_unix_ms) WHERE status = 'queued';
CREATE INDEX job_leased ON job (lease_until_unix_ms) WHERE status = 'running';
CREATE INDEX job_part ON job (part_of, place) WHERE part_of IS NOT NULL;
CREATE INDEX job_ended ON job (ended_unix_ms) WHERE ended_unix_ms IS NOT NULL;
CREATE INDEX job_status ON job (status, seq);

-- Files of callers and of batches, in sealed pieces.
CREATE TABLE file (
    seq             bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              text    COLLATE "C" NOT NULL UNIQUE,
    key             text,
    name            text    NOT NULL,
    purpose         text    NOT NULL,
    bytes           bigint  NOT NULL,
    created_unix_ms bigint  NOT NULL,
    expires_unix_ms bigint,
    whole           boolean NOT NULL                        -- false: it is still being written
);

CREATE TABLE file_piece (
    file    text   COLLATE "C" NOT NULL,
    place   bigint NOT NULL,
    content bytea  NOT NULL,
    PRIMARY KEY (file, place)
);

ALTER TABLE file_piece ALTER content SET STORAGE EXTERNAL;

-- Many requests, read from a file, answered into another one.
CREATE TABLE batch (
    seq                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                 text   COLLATE "C" NOT NULL UNIQUE,
    key                text,
    endpoint           text   NOT NULL,
    input_file         text   NOT NULL,
    completion_window  text   NOT NULL,
    status             text   NOT NULL,
    total              bigint NOT NULL DEFAULT 0,
    completed          bigint NOT NULL DEFAULT 0,
    failed             bigint NOT NULL DEFAULT 0,
    output_file        text,
    error_file         text,
    errors             text,                                -- JSON
    metadata           text,                                -- JSON
    owner              bytea  NOT NULL,                     -- sealed: whose limits and budgets it goes by
    created_unix_ms    bigint NOT NULL,
    expires_unix_ms    bigint NOT NULL,
    started_unix_ms    bigint,
    finalizing_unix_ms bigint,
    cancelling_unix_ms bigint,
    ended_unix_ms      bigint
);
