use std::{fmt, sync::Arc};

use super::{
    Kista,
    to_the_end::{BrokenOff, ToTheEnd},
};
use crate::{
    gate::{
        self, ApiError, AuthReply, AuthWish, Body, Call, Granted, Head, Mounted, Public, RawReply,
        Released, Slot,
    },
    quota::Standing,
    secret::SecretBytes,
    system::public,
    token::{CreateError, Created, Session, TokenDigest},
    vault::Unsealed,
};

/// A request whose caller is known, or needs not be: its body may be read now.
pub struct Begun {
    kista: Kista,
    way: Way,
    /// What its answer tells of a quota.
    standing: Option<Standing>,
}

enum Way {
    Public(Public, Box<Head>),
    Identified(Arc<Identified>),
}

/// Who calls, on what, of which vault.
pub(super) struct Identified {
    pub(super) open: Arc<Unsealed>,
    pub(super) session: Arc<Session>,
    /// Whether the token is used up with this request.
    pub(super) is_last_use: bool,
    pub(super) mounted: Arc<dyn Mounted>,
    pub(super) head: Box<Head>,
    /// Where its audit line may wait for its answer's.
    pub(super) slot: Slot,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Begun")
    }
}

impl Begun {
    pub(super) fn public(kista: Kista, public: Public, head: Box<Head>) -> Self {
        Self { kista, way: Way::Public(public, head), standing: None }
    }

    pub(super) fn identified(kista: Kista, identified: Identified) -> Self {
        Self { kista, way: Way::Identified(Arc::new(identified)), standing: None }
    }

    /// The same, with an answer that tells what is left to its caller where that is known.
    #[must_use]
    pub(super) fn telling(self, standing: Option<Standing>) -> Self {
        Self { standing, ..self }
    }

    /// Most bytes of body that are read.
    pub fn body_limit(&self) -> usize {
        match &self.way {
            Way::Public(..) => public::MAX_BODY_BYTES,
            Way::Identified(identified) => {
                let Identified { mounted, head, .. } = &**identified;
                mounted.body_limit(mounted.place().relative(head.path.as_str()))
            }
        }
    }

    /// The digest of the token that it came with; `None` where none is needed.
    pub fn digest(&self) -> Option<TokenDigest> {
        match &self.way {
            Way::Public(..) => None,
            Way::Identified(identified) => Some(identified.session.digest),
        }
    }

    /// Goes the rest of the way, to its end even if nobody waits for it.
    pub async fn call(self, body: SecretBytes) -> Released {
        let Self { kista, way, standing } = self;
        let released = match way {
            Way::Public(public, head) => {
                let work = ToTheEnd::new(async move {
                    let answer = public::answer(kista.vault(), public, &head, body).await;
                    gate::release_public(public, answer)
                });
                work.await.unwrap_or_else(|broken| {
                    gate::release_public(public, Err(ApiError::internal(broken)))
                })
            }
            Way::Identified(identified) => {
                let at_work = Arc::clone(&identified);
                let work = ToTheEnd::new(async move { at_work.run(&kista, body).await });
                match work.await {
                    Ok(released) => released,
                    Err(broken) => Box::pin(identified.aborted(broken)).await,
                }
            }
        };
        released.telling(standing)
    }
}

impl Identified {
    async fn run(&self, kista: &Kista, body: SecretBytes) -> Released {
        let Self { open, session, mounted, head, slot, .. } = self;
        let ground = &open.ground;
        let body = match Body::check(head.operation, &head.media, body) {
            Ok(body) => body,
            Err(error) => {
                return Box::pin(gate::refuse(ground, Some(session), head, error.of_input())).await;
            }
        };
        let permit = match gate::admit(ground, session, mounted.as_ref(), head, &body, slot).await {
            Ok(permit) => permit,
            Err(error) => return self.release(Err(error)).await,
        };
        let path = mounted.place().relative(head.path.as_str());
        let answer = mounted.dispatch(&permit, Call { head, path, body: &body }).await;
        let answer = match answer {
            Ok(mut reply) => match reply.auth.take() {
                None => Ok((reply, None)),
                Some(wish) => Box::pin(self.grant(wish, reply)).await,
            },
            Err(error) => Err(error),
        };
        let seals = answer.as_ref().is_ok_and(|(reply, _)| reply.seals);
        let released = self.release(answer).await;
        if self.is_last_use
            && let Err(error) = Box::pin(ground.tokens.revoke(session.digest)).await
        {
            // It opens nothing any more; only its record stays until it expires.
            tracing::warn!(%error, "a used-up token was not taken away");
        }
        if seals {
            Box::pin(kista.vault().seal()).await;
        }
        released
    }

    /// Makes what the handler wished for: here alone tokens are minted.
    async fn grant(&self, wish: AuthWish, mut reply: RawReply) -> Result<Granted, ApiError> {
        let auth = match wish {
            AuthWish::Show(auth) => auth,
            AuthWish::Mint(spec) => {
                let created = self.open.ground.tokens.create(*spec, Some(&self.session)).await;
                let created = created.map_err(refusal)?;
                reply.warnings.extend(created.warnings.iter().map(ToString::to_string));
                let Created { token, entry, .. } = created;
                Box::new(AuthReply::of_entry(token, &entry, entry.ttl))
            }
        };
        Ok((reply, Some(auth)))
    }

    async fn release(&self, answer: Result<Granted, ApiError>) -> Released {
        let place = self.mounted.place();
        gate::release(&self.open.ground, &self.session, place, &self.head, &self.slot, answer).await
    }

    /// The handler panicked: its request line gets an answer line all the same.
    async fn aborted(&self, broken: BrokenOff) -> Released {
        self.release(Err(ApiError::internal(broken))).await
    }
}

fn refusal(error: CreateError) -> ApiError {
    match error {
        CreateError::Load(error) => error.into(),
        CreateError::Commit(error) => error.into(),
        CreateError::RestrictedParent
        | CreateError::PoliciesNotSubset
        | CreateError::RootNeedsRoot
        | CreateError::ExpiringRoot
        | CreateError::SudoNeeded(_)
        | CreateError::BadId
        | CreateError::DuplicateId
        | CreateError::TooDeep
        | CreateError::ParentGone => ApiError::bad_request(error.to_string()),
    }
}
