//! Questions about files and sessions.
