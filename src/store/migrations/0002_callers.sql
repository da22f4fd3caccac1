-- Keys of callers. The text of a key is nowhere: only its hash, under a secret that is not in this file.
CREATE TABLE access_key (
    id              TEXT    PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,                -- also those of revoked keys: reports go by name
    tier            TEXT,
    team            TEXT,
    role            TEXT    NOT NULL,
    tags            TEXT    NOT NULL,                       -- comma separated
    limits          TEXT    NOT NULL,                       -- JSON
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER,
    revoked_unix_ms INTEGER
) STRICT, WITHOUT ROWID;

-- One per text; a rotated key has several.
CREATE TABLE access_secret (
    digest          BLOB    PRIMARY KEY,
    key             TEXT    NOT NULL REFERENCES access_key (id),
    ending          TEXT    NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER
) STRICT, WITHOUT ROWID;

-- Counts the changes, so that a running server sees those of the command line; and tells whether the secret is the one
-- under which the keys are hashed.
CREATE TABLE access_state (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    version     INTEGER NOT NULL,
    fingerprint BLOB
) STRICT;

INSERT INTO access_state VALUES (1, 0, NULL);

-- Who a request was of, besides its key.
ALTER TABLE request ADD COLUMN team TEXT;
ALTER TABLE request ADD COLUMN tier TEXT;
ALTER TABLE request ADD COLUMN tags TEXT NOT NULL DEFAULT '';

CREATE TABLE usage_label_2 (
    label    INTEGER PRIMARY KEY,
    provider TEXT    NOT NULL,
    model    TEXT    NOT NULL,
    task     TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    team     TEXT    NOT NULL,
    tier     TEXT    NOT NULL,
    tags     TEXT    NOT NULL,
    strategy TEXT    NOT NULL,
    status   TEXT    NOT NULL,
    demo     INTEGER NOT NULL,
    UNIQUE (provider, model, task, key, team, tier, tags, strategy, status, demo)
) STRICT;

INSERT INTO usage_label_2
    SELECT label, provider, model, task, key, '', '', '', strategy, status, demo FROM usage_label;
DROP TABLE usage_label;
ALTER TABLE usage_label_2 RENAME TO usage_label;
