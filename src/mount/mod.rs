//! What is mounted where.
