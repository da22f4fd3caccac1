-- What guards found, as names and counts; NULL: nothing.
ALTER TABLE request ADD COLUMN guards TEXT;
