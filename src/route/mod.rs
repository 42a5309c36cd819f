//! The language in which wings describe themselves.
