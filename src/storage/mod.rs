//! Untrusted bytes: the journal, its index, and the contract of both.
