use std::{fmt, sync::Arc};

use crate::{
    audit::Broker,
    barrier::Barrier,
    clock::Clock,
    policy,
    token::{self, TtlLimits},
};

/// What an open vault stands on. Dropping the last holder wipes the keys.
pub struct Ground {
    /// Everything stored.
    pub barrier: Arc<Barrier>,
    /// Policies by name.
    pub policies: Arc<policy::Store>,
    /// Tokens by digest.
    pub tokens: Arc<token::Store>,
    /// Audit devices.
    pub audit: Broker,
    /// What bounds tokens whose mount says nothing else.
    pub ttl: TtlLimits,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ground")
    }
}
