use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{Acl, DEFAULT_POLICY, ParseError, parse};
use crate::barrier::{
    Batch, Collection, CommitError, MountView, PathError, ReadError, Record, check_name,
};

/// The policy that allows everything: built in, without a text.
pub const ROOT: &str = "root";
/// The policy that every token gets unless it asks not to; it can be changed, not deleted.
pub const DEFAULT: &str = "default";

/// How many compiled sets of policies are kept.
const COMPILED: usize = 1_024;

/// The policies of a vault, by name. Names are lower case.
#[derive(Debug)]
pub struct Store {
    policies: Collection<Text>,
    /// Counts changes; what was compiled before one is void after it.
    generation: AtomicU64,
    compiled: Mutex<Compiled>,
}

/// What sets of policies allow, by their names, and at which generation that was read.
type Compiled = HashMap<Vec<String>, (u64, Arc<Acl>)>;

/// A policy as it was written.
#[derive(Debug, Serialize, Deserialize)]
struct Text {
    text: String,
}

impl Record for Text {
    const VERSION: u8 = 1;
}

/// Why a policy was not written; the texts but the last are Vault's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The root policy has no text.
    #[error("cannot update \"root\" policy")]
    Root,
    /// No text.
    #[error("'policy' parameter not supplied or empty")]
    Empty,
    /// Not a policy.
    #[error("failed to parse policy: {0}")]
    Parse(ParseError),
    /// Not a name.
    #[error("not a name for a policy")]
    Name(#[source] PathError),
    /// It cannot be written.
    #[error(transparent)]
    Commit(CommitError),
}

/// Why a policy was not deleted; the texts but the last are Vault's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The root policy stays.
    #[error("cannot delete \"root\" policy")]
    Root,
    /// The default policy stays.
    #[error("cannot delete default policy")]
    Default,
    /// It cannot be written.
    #[error(transparent)]
    Commit(CommitError),
}

/// Why policies cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// One cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// One that is stored does not parse; whoever holds it is refused, since it might deny.
    #[error("the stored policy \"{name}\" does not parse: write it again")]
    Unparsable {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: ParseError,
    },
}

impl Store {
    /// The policies under Kista's own space.
    pub fn new(system: &MountView) -> Self {
        Self {
            policies: Collection::new(system.under(&["policy"])),
            generation: AtomicU64::new(0),
            compiled: Mutex::default(),
        }
    }

    /// Adds the default policy to the batch that initialises a vault.
    pub fn initialize(&self, batch: &mut Batch) {
        self.policies.put(batch, &[DEFAULT], &Text { text: DEFAULT_POLICY.to_owned() });
    }

    /// Up to `limit` names that sort after `after`, the root policy's among them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, ReadError> {
        let entries = self.policies.list(&[], after, limit).await?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        if after.is_none_or(|after| after < ROOT) {
            names.insert(names.partition_point(|name| name.as_str() < ROOT), ROOT.to_owned());
            names.truncate(limit);
        }
        Ok(names)
    }

    /// The text of a policy, empty for the root policy; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn get(&self, name: &str) -> Result<Option<String>, ReadError> {
        let name = normal(name);
        if name == ROOT {
            return Ok(Some(String::new()));
        }
        match self.policies.get(&[&name]).await {
            Ok(held) => Ok(held.map(|held| held.value.text)),
            Err(ReadError::Path(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a policy.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn exists(&self, name: &str) -> Result<bool, ReadError> {
        Ok(self.get(name).await?.is_some())
    }

    /// Writes a policy that parses. It holds from the next request on.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put(&self, name: &str, text: &str) -> Result<(), PutError> {
        let name = normal(name);
        if name == ROOT {
            return Err(PutError::Root);
        }
        if text.trim().is_empty() {
            return Err(PutError::Empty);
        }
        check_name(&name).map_err(PutError::Name)?;
        parse(&name, text).map_err(PutError::Parse)?;
        let mut batch = Batch::default();
        self.policies.put(&mut batch, &[&name], &Text { text: text.to_owned() });
        self.change(batch).await.map_err(PutError::Commit)
    }

    /// Deletes a policy, if there is one.
    ///
    /// # Errors
    /// [`DeleteError`].
    pub async fn delete(&self, name: &str) -> Result<(), DeleteError> {
        let name = normal(name);
        match name.as_str() {
            ROOT => return Err(DeleteError::Root),
            DEFAULT => return Err(DeleteError::Default),
            _ => {}
        }
        let mut batch = Batch::default();
        self.policies.delete(&mut batch, &[&name]);
        match self.change(batch).await {
            // What cannot be a name is no policy's.
            Ok(()) | Err(CommitError::Path(_)) => Ok(()),
            Err(error) => Err(DeleteError::Commit(error)),
        }
    }

    /// Counts the changes of policies: what was decided under another number is void.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Makes everything that was decided so far void: it is read again when it is needed.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.compiled().clear();
    }

    /// What a set of policies allows together; those that do not exist allow nothing. Sets used
    /// before are kept compiled until a policy changes.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn acl_for(&self, names: &[String]) -> Result<Arc<Acl>, LoadError> {
        // Taken before reading: a change meanwhile makes what is compiled void.
        let generation = self.generation();
        if let Some((compiled_at, acl)) = self.compiled().get(names)
            && *compiled_at == generation
        {
            return Ok(Arc::clone(acl));
        }
        let acl = Arc::new(self.compile(names).await?);
        let mut compiled = self.compiled();
        if compiled.len() >= COMPILED {
            compiled.clear();
        }
        compiled.insert(names.to_vec(), (generation, Arc::clone(&acl)));
        Ok(acl)
    }

    async fn compile(&self, names: &[String]) -> Result<Acl, LoadError> {
        if names.iter().any(|name| name == ROOT) {
            return Ok(Acl::root());
        }
        let mut policies = Vec::with_capacity(names.len());
        for name in names {
            let Some(text) = self.get(name).await? else { continue };
            let unparsable = |source| LoadError::Unparsable { name: name.clone(), source };
            policies.push(Arc::new(parse(name, &text).map_err(unparsable)?));
        }
        Ok(Acl::compile(&policies))
    }

    /// Commits a change of policies, and makes what was compiled void whether it comes about or
    /// not.
    async fn change(&self, batch: Batch) -> Result<(), CommitError> {
        struct Void<'a>(&'a Store);
        impl Drop for Void<'_> {
            fn drop(&mut self) {
                self.0.forget();
            }
        }
        let _void = Void(self);
        self.policies.view().commit(batch).await
    }

    fn compiled(&self) -> MutexGuard<'_, Compiled> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn normal(name: &str) -> String {
    name.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Ask, Capability},
        *,
    };
    use crate::{
        barrier::{Barrier, SpaceId, fixture},
        clock::Timestamp,
    };

    const READ_A: &str = r#"path "a" { capabilities = ["read"] }"#;
    const READ_B: &str = r#"path "b" { capabilities = ["read"] }"#;

    fn store() -> (Arc<Barrier>, Store) {
        let (barrier, ..) = fixture::open();
        let store = Store::new(&barrier.view(SpaceId::SYSTEM));
        (barrier, store)
    }

    async fn may_read(store: &Store, names: &[&str], path: &str) -> bool {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let ask = Ask {
            path,
            capability: Capability::Read,
            fields: None,
            wrap_ttl: None,
            now: Timestamp::from_millis(0),
        };
        store.acl_for(&names).await.unwrap().check(&ask).allowed
    }

    #[tokio::test]
    async fn policies_are_kept_by_lower_case_names() {
        let (_, store) = store();
        store.put("App", READ_A).await.unwrap();
        assert_eq!(store.get("aPP").await.unwrap().as_deref(), Some(READ_A));
        assert!(store.exists("app").await.unwrap());
        store.delete("APP").await.unwrap();
        store.delete("app").await.unwrap();
        assert_eq!(store.get("app").await.unwrap(), None);
    }

    #[tokio::test]
    async fn root_is_built_in_and_default_is_made_and_stays() {
        let (barrier, store) = store();
        assert_eq!(store.get("default").await.unwrap(), None);
        let mut batch = Batch::default();
        store.initialize(&mut batch);
        barrier.commit(batch).await.unwrap();
        assert_eq!(store.get("default").await.unwrap().as_deref(), Some(DEFAULT_POLICY));
        assert!(may_read(&store, &["default"], "auth/token/lookup-self").await);
        assert_eq!(store.get("Root").await.unwrap().as_deref(), Some(""));
        assert!(may_read(&store, &["root"], "anything").await);

        let refusal = store.put("root", READ_A).await.unwrap_err().to_string();
        assert_eq!(refusal, "cannot update \"root\" policy");
        let refusal = store.delete("root").await.unwrap_err().to_string();
        assert_eq!(refusal, "cannot delete \"root\" policy");
        let refusal = store.delete("default").await.unwrap_err().to_string();
        assert_eq!(refusal, "cannot delete default policy");
        store.put("default", READ_A).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_policy_is_not_kept() {
        let (_, store) = store();
        assert!(matches!(store.put("app", " \n").await, Err(PutError::Empty)));
        let refusal = store.put("app", "path \"a\" {").await.unwrap_err();
        assert!(refusal.to_string().starts_with("failed to parse policy: "), "{refusal}");
        assert!(matches!(store.put("a/b", READ_A).await, Err(PutError::Name(_))));
        assert_eq!(store.get("a/b").await.unwrap(), None);
        store.delete("a/b").await.unwrap();
        assert_eq!(store.list(None, 10).await.unwrap(), ["root"]);
    }

    #[tokio::test]
    async fn lists_hold_root_in_its_place() {
        let (_, store) = store();
        for name in ["app", "zoo", "base"] {
            store.put(name, READ_A).await.unwrap();
        }
        assert_eq!(store.list(None, 10).await.unwrap(), ["app", "base", "root", "zoo"]);
        assert_eq!(store.list(None, 2).await.unwrap(), ["app", "base"]);
        assert_eq!(store.list(Some("base"), 2).await.unwrap(), ["root", "zoo"]);
        assert_eq!(store.list(Some("root"), 2).await.unwrap(), ["zoo"]);
    }

    #[tokio::test]
    async fn a_change_holds_at_once_and_what_is_compiled_is_shared_until_then() {
        let (_, store) = store();
        assert!(!may_read(&store, &["app", "none"], "a").await);
        store.put("app", READ_A).await.unwrap();
        assert!(may_read(&store, &["app", "none"], "a").await);
        let names = ["app".to_owned()];
        let acl = store.acl_for(&names).await.unwrap();
        assert!(Arc::ptr_eq(&acl, &store.acl_for(&names).await.unwrap()));
        store.put("app", READ_B).await.unwrap();
        assert!(!may_read(&store, &["app"], "a").await);
        assert!(may_read(&store, &["app"], "b").await);
        store.delete("app").await.unwrap();
        assert!(!may_read(&store, &["app"], "b").await);
    }

    #[tokio::test]
    async fn a_stored_policy_that_does_not_parse_refuses_its_holders() {
        let (barrier, store) = store();
        let mut batch = Batch::default();
        store.policies.put(&mut batch, &["old"], &Text { text: "path {".into() });
        barrier.commit(batch).await.unwrap();
        let refused = store.acl_for(&["old".to_owned()]).await;
        assert!(matches!(refused, Err(LoadError::Unparsable { name, .. }) if name == "old"));
    }
}
