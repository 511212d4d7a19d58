//! Resize and normalise exactly as the reference processors do.
