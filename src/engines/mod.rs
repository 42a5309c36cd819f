//! Secret engines.
