//! A scanner for JSON documents.
