use serde::Serialize;

use super::System;
use crate::{
    gate::{ApiError, Permit},
    policy::{DeleteError, PutError},
    route::{Fields, FromFields, Nothing, Reply},
};

/// The name in a policy's path.
pub(super) struct PolicyName(String);

impl FromFields for PolicyName {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self(fields.parameter("name").to_lowercase()))
    }
}

/// `POST policies/acl/:name`.
pub(super) struct PolicyInput {
    name: String,
    text: String,
}

impl FromFields for PolicyInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let text = fields.text("policy")?.unwrap_or_default();
        Self::of(fields, text)
    }
}

impl PolicyInput {
    fn of(fields: &Fields<'_>, text: String) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Err(ApiError::bad_request("'policy' parameter not supplied or empty"));
        }
        Ok(Self { name: fields.parameter("name").to_owned(), text: plain(text) })
    }
}

/// `POST policy/:name`: the same, or the text under its old name `rules`.
pub(super) struct OldPolicyInput {
    policy: PolicyInput,
    uses_rules: bool,
}

impl FromFields for OldPolicyInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let policy = fields.text("policy")?.filter(|text| !text.is_empty());
        let rules = fields.text("rules")?;
        let uses_rules = policy.is_none() && rules.is_some();
        let text = policy.or(rules).unwrap_or_default();
        Ok(Self { policy: PolicyInput::of(fields, text)?, uses_rules })
    }
}

/// A policy may come in base64.
fn plain(text: String) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    match STANDARD.decode(text.trim()).map(String::from_utf8) {
        Ok(Ok(decoded)) => decoded,
        Ok(Err(_)) | Err(_) => text,
    }
}

/// `data` of the list of policies.
#[derive(Debug, Serialize)]
pub(super) struct PolicyList {
    keys: Vec<String>,
    /// The old route has the same names once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<Vec<String>>,
}

/// `data` of `GET policies/acl/:name`.
#[derive(Debug, Serialize)]
pub(super) struct PolicyOutput {
    name: String,
    policy: String,
}

/// `data` of `GET policy/:name`.
#[derive(Debug, Serialize)]
pub(super) struct OldPolicyOutput {
    name: String,
    rules: String,
}

impl System {
    /// `LIST policies/acl`.
    pub(super) async fn list_policies(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<PolicyList>, ApiError> {
        let keys = self.open()?.ground.policies.list(None, usize::MAX).await?;
        Ok(Reply::of(PolicyList { keys, policies: None }))
    }

    /// `LIST policy`.
    pub(super) async fn list_policies_old(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<PolicyList>, ApiError> {
        let keys = self.open()?.ground.policies.list(None, usize::MAX).await?;
        Ok(Reply::of(PolicyList { policies: Some(keys.clone()), keys }).with_copy())
    }

    /// `GET policies/acl/:name`.
    pub(super) async fn read_policy(
        &self,
        _: &Permit<'_>,
        PolicyName(name): PolicyName,
    ) -> Result<Reply<PolicyOutput>, ApiError> {
        let policy = self.policy_text(&name).await?;
        Ok(Reply::of(PolicyOutput { name, policy }))
    }

    /// `GET policy/:name`.
    pub(super) async fn read_policy_old(
        &self,
        _: &Permit<'_>,
        PolicyName(name): PolicyName,
    ) -> Result<Reply<OldPolicyOutput>, ApiError> {
        let rules = self.policy_text(&name).await?;
        Ok(Reply::of(OldPolicyOutput { name, rules }).with_copy())
    }

    /// `POST policies/acl/:name`: it holds from the next request on.
    pub(super) async fn write_policy(
        &self,
        _: &Permit<'_>,
        input: PolicyInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let policies = &self.open()?.ground.policies;
        policies.put(&input.name, &input.text).await.map_err(refused_put)?;
        Ok(Reply::nothing())
    }

    /// `POST policy/:name`.
    pub(super) async fn write_policy_old(
        &self,
        permit: &Permit<'_>,
        input: OldPolicyInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let reply = self.write_policy(permit, input.policy).await?;
        Ok(match input.uses_rules {
            true => reply.with_warning("'rules' is deprecated, please use 'policy' instead"),
            false => reply,
        })
    }

    /// `DELETE policies/acl/:name`; absent is fine.
    pub(super) async fn delete_policy(
        &self,
        _: &Permit<'_>,
        PolicyName(name): PolicyName,
    ) -> Result<Reply<Nothing>, ApiError> {
        self.open()?.ground.policies.delete(&name).await.map_err(refused_delete)?;
        Ok(Reply::nothing())
    }

    async fn policy_text(&self, name: &str) -> Result<String, ApiError> {
        self.open()?.ground.policies.get(name).await?.ok_or_else(ApiError::not_found)
    }
}

fn refused_put(error: PutError) -> ApiError {
    match error {
        PutError::Commit(error) => error.into(),
        PutError::Root | PutError::Empty | PutError::Parse(_) | PutError::Name(_) => {
            ApiError::bad_request(error.to_string())
        }
    }
}

fn refused_delete(error: DeleteError) -> ApiError {
    match error {
        DeleteError::Commit(error) => error.into(),
        DeleteError::Root | DeleteError::Default => ApiError::bad_request(error.to_string()),
    }
}
