use std::fmt;

use super::{
    Access, ApiError, Body, Ground, Head, Mounted, Operation, Place,
    release::{Lines, Slot},
};
use crate::{
    barrier::{Batch, CommitError, MountView},
    clock::Timestamp,
    policy::{Ask, Capability, Decision},
    token::{Session, TtlLimits},
};

/// A caller has been let in: the one source of storage for handlers.
///
/// Private fields, no `Clone`, and lent by reference: it cannot be made or kept elsewhere.
pub struct Permit<'a> {
    ground: &'a Ground,
    session: &'a Session,
    head: &'a Head,
    place: &'a Place,
    view: MountView,
    has_sudo: bool,
    creates: bool,
}

impl Permit<'_> {
    /// The space of the mount that the request is for.
    pub fn storage(&self) -> &MountView {
        &self.view
    }

    /// Commits writes made against [`Permit::storage`].
    ///
    /// # Errors
    /// As [`Barrier::commit`](crate::barrier::Barrier::commit).
    pub async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        self.ground.barrier.commit(batch).await
    }

    /// Who is calling.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// The request, without its body.
    pub fn head(&self) -> &Head {
        self.head
    }

    /// The mount.
    pub fn place(&self) -> &Place {
        self.place
    }

    /// Whether the caller has `sudo` on the request's path.
    pub fn has_sudo(&self) -> bool {
        self.has_sudo
    }

    /// Whether the caller was let in to make what was not there when it was asked for.
    pub fn creates(&self) -> bool {
        self.creates
    }

    /// What bounds tokens that are made or renewed here.
    pub fn ttl(&self) -> TtlLimits {
        self.ground.ttl
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.ground.clock.now()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({:?} {})", self.head.operation, self.place.kind)
    }
}

/// The one question before a permit: is what a write names there already?
pub struct Probe<'a> {
    view: MountView,
    path: &'a str,
}

impl Probe<'_> {
    /// The space of the mount.
    pub fn storage(&self) -> &MountView {
        &self.view
    }

    /// The path after the mount's own.
    pub fn path(&self) -> &str {
        self.path
    }
}

impl fmt::Debug for Probe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// Judges a caller: policy, then the audit line of the request, whose failure is a refusal too. A
/// denial gets its line as well. The line of a request that changes nothing may wait for its
/// answer's in `slot`.
///
/// # Errors
/// 403 when no policy grants the operation, 500 when no audit device could write.
pub async fn admit<'a>(
    ground: &'a Ground,
    session: &'a Session,
    mount: &'a dyn Mounted,
    head: &'a Head,
    body: &Body,
    slot: &Slot,
) -> Result<Permit<'a>, ApiError> {
    let place = mount.place();
    let view = ground.barrier.view(place.space);
    let path = head.path.as_str();
    let relative = place.relative(path);
    let needs = mount.needs(head.operation, relative);
    let capability = match head.operation {
        Operation::Read => Capability::Read,
        Operation::Patch => Capability::Patch,
        Operation::Delete => Capability::Delete,
        Operation::List => Capability::List,
        Operation::Scan => Capability::Scan,
        Operation::Write if needs.asks_existence => {
            let probe = Probe { view: view.clone(), path: relative };
            match mount.exists(&probe).await? {
                true => Capability::Update,
                false => Capability::Create,
            }
        }
        Operation::Write => Capability::Update,
    };
    let decision = decide(session, head, body, capability, ground.clock.now());
    let has_sudo = decision.has_sudo;
    let is_allowed = match needs.access {
        Access::Token => decision.allowed,
        Access::Sudo => decision.allowed && has_sudo,
        Access::Holder => true,
    };
    let error = (!is_allowed).then(ApiError::denied);
    let lines = Lines { ground, head, place: Some(place), session: Some(session) };
    let changes_nothing = head.operation.is_reading() && mount.reads_change_nothing();
    match is_allowed && changes_nothing && body.is_absent() {
        true => lines.hold(&decision, slot),
        false => Box::pin(lines.request(body, (is_allowed, &decision), error.as_ref())).await?,
    }
    match error {
        Some(error) => Err(error),
        None => {
            let creates = capability == Capability::Create;
            Ok(Permit { ground, session, head, place, view, has_sudo, creates })
        }
    }
}

fn decide<'a>(
    session: &'a Session,
    head: &Head,
    body: &Body,
    capability: Capability,
    now: Timestamp,
) -> Decision<'a> {
    // Asked only when a rule restricts fields.
    let fields = |see: &mut dyn FnMut(&str, &str)| {
        body.expose(|object| object.members().for_each(|(name, value)| see(name, value.get())));
        for (name, value) in head.query.pairs() {
            see(name, &serde_json::Value::from(value).to_string());
        }
    };
    session.acl.check(&Ask {
        path: head.path.as_str(),
        capability,
        fields: Some(&fields),
        wrap_ttl: None,
        now,
    })
}
