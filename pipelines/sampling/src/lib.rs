//! Which frames to look at: pure functions over a timeline.
