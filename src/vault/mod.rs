//! Uninitialised, sealed or unsealed.
