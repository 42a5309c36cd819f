//! Rates: how often a client may ask, and how often anyone may try to unseal.
//!
//! A rate is counted for each source of requests in a bucket of its own, in memory of a fixed size.
//! What is asked of the open vault is counted by the quotas that its operator has set, which lie
//! behind the barrier; what shares and passphrases are shown to a closed one, by a rate that nobody
//! can set. This folder refuses nothing by itself: the pipeline asks it before it looks at a token.
//!
//! - `source.rs`: [`Source`], who is counted together
//! - `rate.rs`: [`Rate`], so many in such a time, and [`Standing`], what is left of it
//! - `buckets.rs`: [`Buckets`], one for each quota and source, so many and no more
//! - `record.rs`: [`Quota`] and [`Config`] as they are stored
//! - `table.rs`: the quota of a path
//! - `store.rs`: [`Quotas`] of an open vault
//! - `attempts.rs`: [`Attempts`] to unseal

mod attempts;
mod buckets;
mod rate;
mod record;
mod source;
mod store;
mod table;

pub use attempts::Attempts;
pub use buckets::Buckets;
pub use rate::{BadRate, Rate, Refused, Standing};
pub use record::{Config, DEFAULT_EXEMPT, Quota, Target};
pub use source::Source;
pub use store::{OverQuota, PutError, Quotas};
