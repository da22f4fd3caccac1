-- Requests with an idempotency key, for a day. Neither key nor caller is here, only their hash; the answer is encrypted
-- under the key.
CREATE TABLE idempotent_request (
    place         BLOB    PRIMARY KEY,
    fingerprint   BLOB    NOT NULL,
    began_unix_ms INTEGER NOT NULL,
    answer        BLOB                                      -- NULL: begun, and the end is not known
) STRICT;

CREATE INDEX idempotent_request_began ON idempotent_request (began_unix_ms);
