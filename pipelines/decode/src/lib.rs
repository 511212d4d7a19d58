//! Probe, packet index and exact frame extraction with FFmpeg.
