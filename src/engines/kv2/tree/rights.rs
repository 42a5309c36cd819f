use super::Subject;
use crate::{
    gate::{ApiError, Permit},
    policy::{Ask, Capability},
};

/// What is done to a secret.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Transfer(Way),
    Remove(Removal),
}

/// How a secret gets another path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Copy,
    Move,
}

/// How a secret is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// Its newest version is hidden.
    Delete,
    /// All of it goes.
    Destroy,
}

/// What a caller may do, asked of its policies as the routes for one secret would be.
pub(super) struct Rights<'a> {
    permit: &'a Permit<'a>,
    act: Act,
}

impl<'a> Rights<'a> {
    pub(super) fn of(permit: &'a Permit<'a>, act: Act) -> Self {
        Self { permit, act }
    }

    /// Whether the caller may know what is there at all.
    ///
    /// # Errors
    /// 403.
    pub(super) fn check_subject(&self, subject: &Subject) -> Result<(), ApiError> {
        if !subject.is_folder() {
            // Its own rights tell.
            return self.require_source(&subject.path);
        }
        let folder = format!("metadata/{}", subject.path);
        let may_know = [Capability::List, Capability::Scan];
        match may_know.into_iter().any(|capability| self.has(capability, &folder)) {
            true => Ok(()),
            false => Err(ApiError::denied()),
        }
    }

    /// Whether the caller may do it to the secret at `from`, and put it at `to`.
    ///
    /// # Errors
    /// 403.
    pub(super) fn check(&self, from: &str, to: Option<&str>) -> Result<(), ApiError> {
        self.require_source(from)?;
        if let Some(to) = to {
            self.require(Capability::Create, &format!("data/{to}"))?;
            self.require(Capability::Update, &format!("metadata/{to}"))?;
        }
        Ok(())
    }

    fn require_source(&self, from: &str) -> Result<(), ApiError> {
        let (data, metadata) = (format!("data/{from}"), format!("metadata/{from}"));
        if let Act::Transfer(_) = self.act {
            self.require(Capability::Read, &data)?;
            self.require(Capability::Read, &metadata)?;
        }
        match self.act {
            Act::Transfer(Way::Copy) => Ok(()),
            Act::Remove(Removal::Delete) => self.require(Capability::Delete, &data),
            Act::Transfer(Way::Move) | Act::Remove(Removal::Destroy) => {
                self.require(Capability::Delete, &metadata)
            }
        }
    }

    fn require(&self, capability: Capability, path: &str) -> Result<(), ApiError> {
        if self.has(capability, path) { Ok(()) } else { Err(ApiError::denied()) }
    }

    fn has(&self, capability: Capability, path: &str) -> bool {
        let path = format!("{}{path}", self.permit.place().path);
        let now = self.permit.now();
        let ask = Ask { path: &path, capability, fields: None, wrap_ttl: None, now };
        self.permit.session().acl.check(&ask).allowed
    }
}
