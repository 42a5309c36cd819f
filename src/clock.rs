//! Time: timestamps, durations and the clock.
