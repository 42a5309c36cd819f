use super::{TokenMethod, api::CreateInput};
use crate::{
    gate::{ApiError, Permit},
    route::{Nothing, Reply},
    token::{Orphan, TokenSpec, display_name},
};

impl TokenMethod {
    /// `POST create`: a child of the caller's token.
    pub(super) async fn create(
        &self,
        permit: &Permit<'_>,
        input: CreateInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let orphan = if input.no_parent { Orphan::Asked } else { Orphan::Child };
        Ok(Reply::mint(spec(permit, input, orphan)))
    }

    /// `POST create-orphan`: a token without a parent.
    pub(super) async fn create_orphan(
        &self,
        permit: &Permit<'_>,
        input: CreateInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        Ok(Reply::mint(spec(permit, input, Orphan::Granted)))
    }
}

fn spec(permit: &Permit<'_>, input: CreateInput, orphan: Orphan) -> TokenSpec {
    TokenSpec {
        id: input.id,
        policies: input.policies,
        no_default_policy: input.no_default_policy,
        meta: input.meta,
        display_name: display_name(&input.display_name),
        path: permit.head().path.as_str().to_owned(),
        orphan,
        renewable: input.renewable,
        ttl: input.ttl,
        explicit_max_ttl: input.explicit_max_ttl,
        period: input.period,
        num_uses: input.num_uses,
        limits: permit.ttl(),
        sudo: permit.has_sudo(),
    }
}
