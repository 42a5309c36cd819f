//! Policies, from text to compiled rules.
//!
//! A policy is HCL or JSON text that grants capabilities on paths. [`parse`] reads one, and
//! [`Acl::compile`] turns those of a token into tables that answer whether a request is allowed.
//! All rules are Vault's; where Kista is stricter, `Differs from Vault:` says so. This folder never
//! reads a request's body on its own and knows nothing of tokens or mounts.
//!
//! - `acl.rs`: [`Acl`], [`Ask`], [`Decision`]
//! - `capability.rs`: [`Capability`], [`Capabilities`]
//! - `default.hcl`: [`DEFAULT_POLICY`]
//! - `document.rs`: [`parse`], what the keys of a policy mean
//! - `grant.rs`: what the policies of a token say together about one pattern
//! - `hcl.rs`, `lexer.rs`: the syntax
//! - `parameters.rs`: conditions on a request's fields
//! - `parse_error.rs`: [`ParseError`], [`Problem`]
//! - `pattern.rs`: paths with wildcards, and which is more specific
//! - `rule.rs`: [`Policy`] and its rules
//! - `store.rs`: [`Store`], the policies of a vault by name

mod acl;
mod capability;
mod document;
mod grant;
mod hcl;
mod lexer;
mod parameters;
mod parse_error;
mod pattern;
mod rule;
mod store;
#[cfg(test)]
mod tests;

pub use acl::{Acl, Ask, Decision, Fields};
pub use capability::{Capabilities, Capability};
pub use document::{MAX_TEXT_BYTES, parse};
pub use parse_error::{ParseError, Problem};
pub use rule::Policy;
pub use store::{DEFAULT, DeleteError, LoadError, PutError, ROOT, Store};

/// The text of the policy `default` in a new store.
pub const DEFAULT_POLICY: &str = include_str!("default.hcl");
