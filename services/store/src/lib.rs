//! SQLite: media, uploads, idempotency, operations.
