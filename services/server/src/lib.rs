//! Wiring: config to engines to listeners to drain.
