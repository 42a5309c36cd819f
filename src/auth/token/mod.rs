//! `auth/token/`: making, looking up, renewing and revoking tokens.
//!
//! - `api.rs`: wire types
//! - `create.rs`, `lookup.rs`, `renew.rs`, `revoke.rs`: a family of verbs each

mod api;
mod create;
mod lookup;
mod renew;
mod revoke;

use std::sync::{Arc, LazyLock};

use crate::{
    gate::Operation,
    route::{Engine, Routes},
    token::Store,
};

/// The method, mounted once in every store.
#[derive(Debug)]
pub struct TokenMethod {
    tokens: Arc<Store>,
}

impl TokenMethod {
    /// Looks after these tokens.
    pub fn new(tokens: Arc<Store>) -> Self {
        Self { tokens }
    }
}

impl Engine for TokenMethod {
    const READS_CHANGE_NOTHING: bool = true;

    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<TokenMethod>> = LazyLock::new(routes);
        &ROUTES
    }
}

fn routes() -> Routes<TokenMethod> {
    Routes::new()
        .on(Operation::Write, "create", TokenMethod::create)
        .on(Operation::Write, "create-orphan", TokenMethod::create_orphan)
        .on(Operation::Read, "lookup-self", TokenMethod::look_up_self)
        .on(Operation::Write, "lookup-self", TokenMethod::look_up_self)
        .on(Operation::Write, "lookup", TokenMethod::look_up)
        .on(Operation::Read, "lookup", TokenMethod::look_up_self)
        .on(Operation::Write, "lookup-accessor", TokenMethod::look_up_accessor)
        .on(Operation::Write, "renew-self", TokenMethod::renew_self)
        .on(Operation::Write, "renew", TokenMethod::renew)
        .on(Operation::Write, "renew-accessor", TokenMethod::renew_accessor)
        .on(Operation::Write, "revoke-self", TokenMethod::revoke_self)
        .on(Operation::Write, "revoke", TokenMethod::revoke)
        .on(Operation::Write, "revoke-accessor", TokenMethod::revoke_accessor)
        .on_sudo(Operation::Write, "revoke-orphan", TokenMethod::revoke_orphan)
        .on_sudo(Operation::List, "accessors/", TokenMethod::accessors)
        .on_sudo(Operation::List, "accessors", TokenMethod::accessors)
}
