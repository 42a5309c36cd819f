use std::sync::Arc;

use super::{Begun, Kista, call::Identified, limit};
use crate::{
    clock::parse_duration,
    gate::{self, ApiError, Head, Mounted, Public, Rejection, Released, Slot},
    policy::{Ask, Capability},
    token::{Session, UseError, Used},
    vault::Unsealed,
};

impl Kista {
    /// Looks at a request before its body is read: is it one too many, is it for a public route,
    /// is the vault open, does the token hold, is anything mounted there.
    ///
    /// # Errors
    /// The answer, where the request goes no further.
    pub async fn begin(&self, head: Box<Head>) -> Result<Begun, Released> {
        check_headers(&head).map_err(|rejection| gate::reject(&rejection))?;
        let open = self.inner.vault.unsealed();
        let standing = match &open {
            Some(open) => limit::count(open, &head).await?,
            None => None,
        };
        match self.begin_within(open, head).await {
            Ok(begun) => Ok(begun.telling(standing)),
            Err(released) => Err(released.telling(standing)),
        }
    }

    async fn begin_within(
        &self,
        open: Option<Arc<Unsealed>>,
        mut head: Box<Head>,
    ) -> Result<Begun, Released> {
        if let Some(public) = Public::at(head.path.as_str()) {
            self.count_attempt(public, &head)?;
            return Ok(Begun::public(self.clone(), public, head));
        }
        let Some(open) = open else { return Err(gate::reject(&Rejection::Sealed)) };
        if head.operation.is_listing() {
            head.path = head.path.into_folder();
        }
        let Used { session, last } = match identify(&open, &head).await {
            Ok(used) => used,
            Err(error) => {
                return Err(Box::pin(gate::refuse(&open.ground, None, &head, error)).await);
            }
        };
        match self.find(&open, &session, &head) {
            Ok(mounted) => {
                let slot = Slot::default();
                let identified =
                    Identified { open, session, is_last_use: last, mounted, head, slot };
                Ok(Begun::identified(self.clone(), identified))
            }
            Err(error) => {
                Err(Box::pin(gate::refuse(&open.ground, Some(&session), &head, error)).await)
            }
        }
    }

    fn find(
        &self,
        open: &Arc<Unsealed>,
        session: &Session,
        head: &Head,
    ) -> Result<Arc<dyn Mounted>, ApiError> {
        let path = head.path.as_str();
        if path.starts_with("sys/") {
            return Ok(Arc::clone(&self.inner.system));
        }
        if let Some(entry) = open.mounts.table().find(path) {
            return Ok(Arc::clone(&entry.mounted));
        }
        // What is not there is told only to those who might use it if it were.
        let now = open.ground.clock.now();
        let capability = Capability::Read;
        let ask = Ask { path, capability, fields: None, wrap_ttl: None, now };
        if session.acl.check(&ask).allowed {
            let text = format!("no handler for route {path:?}. route entry not found.");
            return Err(ApiError::new(404, text));
        }
        Err(ApiError::denied())
    }
}

/// One answer for a token that is missing, unknown, ended or used up.
async fn identify(open: &Unsealed, head: &Head) -> Result<Used, ApiError> {
    let Some(token) = &head.token else { return Err(ApiError::bad_token()) };
    let tokens = &open.ground.tokens;
    let session = tokens.lookup(token).await?.ok_or_else(ApiError::bad_token)?;
    let used = tokens.count_use(session).await.map_err(|error| match error {
        UseError::Load(error) => error.into(),
        UseError::Commit(error) => ApiError::from(error),
    })?;
    used.ok_or_else(ApiError::bad_token)
}

fn check_headers(head: &Head) -> Result<(), Rejection> {
    if !matches!(head.namespace.as_deref(), None | Some("" | "/" | "root" | "root/")) {
        return Err(Rejection::NamespaceNotFound);
    }
    let Some(wrap_ttl) = head.wrap_ttl.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    match parse_duration(wrap_ttl) {
        Ok(duration) if duration.is_zero() => Ok(()),
        Ok(_) => Err(Rejection::WrappingUnsupported),
        Err(_) => Err(Rejection::BadHeader("X-Vault-Wrap-TTL is not a duration")),
    }
}
