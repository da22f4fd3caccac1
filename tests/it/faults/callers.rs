//! What callers do to the server: idle connections, slow bytes, oversized heads and bodies.
