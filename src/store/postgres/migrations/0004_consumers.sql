-- Who tells others what happens: how far the log was told, and whose turn it is. One row for each that is told.
CREATE TABLE consumer (
    name          TEXT    PRIMARY KEY,
    place         BIGINT NOT NULL,                          -- the last event that was dealt with
    holder        TEXT    NOT NULL,                          -- the server whose turn it is
    until_unix_ms BIGINT NOT NULL                           -- unless it is heard of
);
