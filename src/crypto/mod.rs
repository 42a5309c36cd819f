//! Primitives without state or I/O; the only home of cipher crates.
