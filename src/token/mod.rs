//! Tokens: create, look up by digest, revoke with children.
