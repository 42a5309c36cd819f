use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Entry, LoadError, Session, Store, TokenDigest, TtlLimits, Warning,
    entry::{Accessed, sanitized},
    ttl::{Asked, granted},
};
use crate::{
    barrier::{Batch, CommitError, Expected, ReadError},
    clock::Timestamp,
    crypto::random,
    policy::{DEFAULT, ROOT},
    secret::SecretString,
};

/// How many tokens may stand above one another: each use of a token asks all that are above it.
const MAX_DEPTH: u32 = 256;
/// 256 bits in base62.
const TOKEN_CHARACTERS: usize = 43;
const ACCESSOR_CHARACTERS: usize = 24;
const PREFIX: &str = "hvs.";
/// How often a creation is tried again when its parent's entry changes meanwhile.
const ATTEMPTS: usize = 16;

/// A token that is wished for. Durations of zero mean that nothing is asked for.
#[derive(Debug)]
pub struct TokenSpec {
    /// The token itself, when its creator chooses it; needs `sudo`.
    pub id: Option<SecretString>,
    /// Names of policies; none for those of the parent.
    pub policies: Vec<String>,
    /// Leaves the policy `default` out.
    pub no_default_policy: bool,
    /// What its creator notes.
    pub meta: BTreeMap<String, String>,
    /// Its name in audit lines.
    pub display_name: String,
    /// The path of the request that makes it.
    pub path: String,
    /// Whether it dies with its parent.
    pub orphan: Orphan,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// How long it lives.
    pub ttl: Duration,
    /// The age that no renewal takes it beyond.
    pub explicit_max_ttl: Duration,
    /// How long each renewal gives it; needs `sudo`.
    pub period: Duration,
    /// How many requests it is good for; zero for any number.
    pub num_uses: u32,
    /// What the mount allows.
    pub limits: TtlLimits,
    /// Whether the creator holds `sudo` on the path.
    pub sudo: bool,
}

/// Whether a token dies with the one that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphan {
    /// It does.
    Child,
    /// It asks not to, for which `sudo` is needed.
    Asked,
    /// It does not: the route is one that makes orphans.
    Granted,
}

/// A token that was made. This is the only time that it is seen.
#[derive(Debug)]
pub struct Created {
    /// The token.
    pub token: SecretString,
    /// What is stored of it.
    pub digest: TokenDigest,
    /// Its entry.
    pub entry: Arc<Entry>,
    /// What was granted other than it was asked for.
    pub warnings: Vec<Warning>,
}

/// Why a token was not made. The texts down to [`Self::TooDeep`] are for the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A token with a limited number of uses asks for a child.
    #[error("restricted use token cannot generate child tokens")]
    RestrictedParent,
    /// More policies than the parent has.
    #[error("child policies must be subset of parent")]
    PoliciesNotSubset,
    /// The root policy, asked for by a token without it.
    #[error("root tokens may not be created without parent token being root")]
    RootNeedsRoot,
    /// A root token without end, asked for by one with an end.
    #[error("expiring root tokens cannot create non-expiring root tokens")]
    ExpiringRoot,
    /// Asked for without `sudo`.
    #[error("root or sudo privileges required to {0}")]
    SudoNeeded(SudoNeeded),
    /// A token of one's own choice that looks like one of ours, or cannot be sent.
    #[error(
        "custom token ID must not be empty, hold '.' or characters that a header cannot carry, or \
         begin with 's.'"
    )]
    BadId,
    /// There is such a token, or its children are still being revoked.
    #[error("cannot create a token with a duplicate ID")]
    DuplicateId,
    /// Too many tokens stand above it.
    #[error("more than {MAX_DEPTH} tokens stand above this one; create an orphan token instead")]
    TooDeep,
    /// The parent was revoked meanwhile.
    #[error("the parent token is no longer valid")]
    ParentGone,
    /// Storage or a policy cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The token cannot be written.
    #[error(transparent)]
    Commit(CommitError),
}

/// What needs `sudo`; `Display` completes Vault's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SudoNeeded {
    /// A token of one's own choice.
    Id,
    /// A token without a parent.
    Orphan,
    /// A periodic token.
    Period,
}

impl std::fmt::Display for SudoNeeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Id => "specify token id",
            Self::Orphan => "create orphan token",
            Self::Period => "create periodic token",
        })
    }
}

/// The name in audit lines of a token whose creator asks for one, or for none.
pub fn display_name(asked: &str) -> String {
    if asked.is_empty() {
        return "token".to_owned();
    }
    let plain = asked.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let name: String = "token-".chars().chain(plain).collect();
    name.strip_suffix('-').unwrap_or(&name).to_owned()
}

impl Store {
    /// Makes a token. Without a parent it is an orphan that may have any policy: for the first root
    /// token, and for logins.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn create(
        &self,
        spec: TokenSpec,
        parent: Option<&Session>,
    ) -> Result<Created, CreateError> {
        let mut warnings = Vec::new();
        let entry = self.entry_of(&spec, parent, &mut warnings)?;
        let custom = spec.id.is_some();
        let token = match spec.id {
            Some(id) => id.expose(is_custom_id).then_some(id).ok_or(CreateError::BadId)?,
            None => new_token(),
        };
        let digest = self.digest(&token);
        self.commit_new(digest, &entry, custom).await?;
        for policy in &entry.policies {
            if !self.policies().exists(policy).await.map_err(LoadError::from)? {
                warnings.push(Warning::NoSuchPolicy(policy.clone()));
            }
        }
        Ok(Created { token, digest, entry: Arc::new(entry), warnings })
    }

    /// Decides what the new token is.
    fn entry_of(
        &self,
        spec: &TokenSpec,
        parent: Option<&Session>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Entry, CreateError> {
        if parent.is_some_and(|parent| parent.entry.uses_left.is_some()) {
            return Err(CreateError::RestrictedParent);
        }
        check_sudo(spec, parent)?;
        let policies = policies_of(spec, parent)?;
        let above = parent.filter(|_| spec.orphan == Orphan::Child);
        let depth = above.map_or(0, |parent| parent.entry.depth + 1);
        if depth > MAX_DEPTH {
            return Err(CreateError::TooDeep);
        }
        let created = self.now();
        let explicit_max_ttl = spec.explicit_max_ttl.min(spec.limits.max);
        if explicit_max_ttl < spec.explicit_max_ttl {
            let asked = spec.explicit_max_ttl;
            warnings.push(Warning::ExplicitMaxCapped { asked, max: explicit_max_ttl });
        }
        let is_root = policies.iter().any(|policy| policy == ROOT);
        let ttl = ttl_of(spec, is_root, explicit_max_ttl, created, warnings);
        if ttl.is_zero() && parent.is_some_and(|parent| parent.entry.expires.is_some()) {
            return Err(CreateError::ExpiringRoot);
        }
        Ok(Entry {
            accessor: random::base62(ACCESSOR_CHARACTERS).expose(str::to_owned),
            policies,
            meta: spec.meta.clone(),
            display_name: spec.display_name.clone(),
            path: spec.path.clone(),
            parent: above.map(|parent| parent.digest),
            depth,
            created,
            ttl,
            explicit_max_ttl,
            period: spec.period.min(spec.limits.max),
            renewable: spec.renewable && !ttl.is_zero(),
            expires: (!ttl.is_zero()).then(|| created.plus(ttl)),
            last_renewal: None,
            uses_left: (spec.num_uses > 0).then_some(spec.num_uses),
        })
    }

    /// Writes a new token, provided that its parent is still there as it is written.
    async fn commit_new(
        &self,
        digest: TokenDigest,
        entry: &Entry,
        custom: bool,
    ) -> Result<(), CreateError> {
        let id = digest.segment();
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::default();
            self.entries.put_if(&mut batch, &[&id], entry, Expected::Absent);
            let accessed = Accessed { digest };
            self.accessors.put_if(&mut batch, &[&entry.accessor], &accessed, Expected::Absent);
            if custom {
                // Children of an earlier token of this name must not come to life again.
                batch.expect(self.sweeps.view(), &[&id], Expected::Absent);
            }
            if let Some(expires) = entry.expires {
                self.deadlines.add(&mut batch, expires, &id);
            }
            if let Some(parent) = entry.parent {
                let parent = parent.segment();
                let held = self.entries.get(&[&parent]).await.map_err(LoadError::from)?;
                let held = held.filter(|held| held.value.is_live(self.now()));
                let held = held.ok_or(CreateError::ParentGone)?;
                batch.expect(self.entries.view(), &[&parent], held.unchanged());
                batch.put(&self.children, &[&parent, &id], &[]);
            }
            match self.barrier.commit(batch).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) if custom && self.is_taken(&id).await? => {
                    return Err(CreateError::DuplicateId);
                }
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(CreateError::Commit(error)),
            }
        }
        Err(CreateError::Commit(CommitError::Conflict))
    }

    async fn is_taken(&self, id: &str) -> Result<bool, LoadError> {
        Ok(self.entries.get(&[id]).await?.is_some() || self.sweeps.get(&[id]).await?.is_some())
    }
}

fn check_sudo(spec: &TokenSpec, parent: Option<&Session>) -> Result<(), CreateError> {
    if spec.sudo || parent.is_none_or(Session::is_root) {
        return Ok(());
    }
    let needed = if spec.id.is_some() {
        SudoNeeded::Id
    } else if spec.orphan == Orphan::Asked {
        SudoNeeded::Orphan
    } else if !spec.period.is_zero() {
        SudoNeeded::Period
    } else {
        return Ok(());
    };
    Err(CreateError::SudoNeeded(needed))
}

/// The policies of a new token: a subset of its parent's unless `sudo` allows more, and `default`.
fn policies_of(spec: &TokenSpec, parent: Option<&Session>) -> Result<Vec<String>, CreateError> {
    let mut policies = sanitized(&spec.policies);
    if let Some(parent) = parent {
        let held = parent.policies();
        let is_subset = policies.iter().all(|policy| held.contains(policy));
        if policies.is_empty() {
            policies = held.to_vec();
        } else if policies.iter().any(|policy| policy == ROOT) && !parent.is_root() {
            return Err(CreateError::RootNeedsRoot);
        } else if !is_subset && !spec.sudo && !parent.is_root() {
            return Err(CreateError::PoliciesNotSubset);
        }
    }
    if !policies.iter().any(|policy| policy == ROOT || policy == DEFAULT) && !spec.no_default_policy
    {
        policies.push(DEFAULT.to_owned());
    }
    if spec.no_default_policy {
        policies.retain(|policy| policy != DEFAULT);
    }
    Ok(sanitized(&policies))
}

/// How long a new token lives; zero, for ever, only for a root token that asks for no end.
fn ttl_of(
    spec: &TokenSpec,
    is_root: bool,
    explicit_max: Duration,
    created: Timestamp,
    warnings: &mut Vec<Warning>,
) -> Duration {
    if is_root && spec.ttl.is_zero() && spec.period.is_zero() {
        return explicit_max;
    }
    let asked = Asked { ttl: spec.ttl, period: spec.period, explicit_max, since: created };
    // A token of this moment is not past its maximum.
    granted(asked, spec.limits, created, warnings).unwrap_or(spec.limits.default)
}

fn new_token() -> SecretString {
    let random = random::base62(TOKEN_CHARACTERS);
    // Of its final length from the start: growing would leave copies behind.
    let mut token = String::with_capacity(PREFIX.len() + random.len());
    token.push_str(PREFIX);
    random.expose(|random| token.push_str(random));
    SecretString::from_string(token)
}

/// Whether a token may be chosen: not one of ours by its look, and one that a header can carry.
fn is_custom_id(id: &str) -> bool {
    !id.is_empty() && !id.contains('.') && id.bytes().all(|byte| byte.is_ascii_graphic())
}

impl From<ReadError> for CreateError {
    fn from(error: ReadError) -> Self {
        Self::Load(error.into())
    }
}
