-- The trace that a request belongs to, in hexadecimal digits; NULL: none.
ALTER TABLE request ADD COLUMN trace_id TEXT;
