//! The sys/ API.
