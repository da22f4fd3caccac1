//! Secrets and prompts appear in no log, metric, error or file.
