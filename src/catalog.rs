//! Providers and models.
