//! Deadlines in minute buckets.
