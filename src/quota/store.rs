use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::{
    BadRate, Buckets, Config, Quota, Refused, Source, Standing, Target,
    table::{Rule, Table},
};
use crate::{
    barrier::{Batch, Collection, CommitError, MountView, ReadError},
    clock::Clock,
};

/// The quotas of an open vault. Buckets are in memory alone: after an unseal all are full.
pub struct Quotas {
    quotas: Collection<Quota>,
    configs: Collection<Config>,
    table: ArcSwap<Table>,
    buckets: Buckets,
    /// The next rule's number.
    next: AtomicU64,
    /// One change at a time: each looks at the table and then replaces it.
    changes: Mutex<()>,
    clock: Arc<dyn Clock>,
}

/// A request over its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    /// Seconds until it may come again.
    pub retry_after: u64,
    /// What is left, where that is to be told.
    pub standing: Option<Standing>,
    /// Whether it gets lines in the audit file.
    pub is_audited: bool,
}

/// Why a quota is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// Nothing can be counted by it.
    #[error(transparent)]
    Rate(#[from] BadRate),
    /// Another one is for the same path; the text is Vault's.
    #[error("quota rule with similar properties exists under the name {0:?}")]
    Similar(String),
    /// There are as many as there may be.
    #[error("there are {MOST} quotas already; remove one first")]
    TooMany,
    /// It cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quotas")
    }
}

impl Quotas {
    /// Reads the quotas under Kista's own space. What a mount has left that `is_mounted` does not
    /// know is taken away.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn load(
        system: &MountView,
        is_mounted: impl Fn(&str) -> bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ReadError> {
        let view = system.under(&["quota"]);
        let loaded = Self {
            quotas: Collection::new(view.under(&["rate-limit"])),
            configs: Collection::new(view),
            table: ArcSwap::from_pointee(Table::of(Config::default(), BTreeMap::new())),
            buckets: Buckets::new(BUCKETS),
            next: AtomicU64::new(0),
            changes: Mutex::new(()),
            clock,
        };
        loaded.reload().await?;
        loaded.forget(|uuid| !is_mounted(uuid)).await;
        Ok(loaded)
    }

    /// Reads them again: what they were read from was found to be wrong.
    ///
    /// # Errors
    /// [`ReadError`]; they stay as they were.
    pub async fn reload(&self) -> Result<(), ReadError> {
        let _one = self.changes.lock().await;
        let config = self.configs.get(CONFIG).await?.map(|held| held.value).unwrap_or_default();
        let mut rules = BTreeMap::new();
        for item in self.quotas.list(&[], None, usize::MAX).await? {
            let Some(held) = self.quotas.get(&[&item.name]).await? else { continue };
            match self.rule(held.value) {
                Ok(rule) => drop(rules.insert(item.name, rule)),
                // It was looked at before it was written: only another version takes it for one.
                Err(error) => tracing::warn!(%error, "a stored quota counts nothing"),
            }
        }
        self.table.store(Arc::new(Table::of(config, rules)));
        Ok(())
    }

    /// Whether nothing is counted: one atomic load.
    pub fn is_empty(&self) -> bool {
        self.table.load().is_empty()
    }

    /// Counts a request from an address for a path, given with the identifier of the mount that it
    /// lies in and what is below that. The standing is told where answers are to show it.
    ///
    /// # Errors
    /// [`OverQuota`] when it is one too many.
    pub fn count(
        &self,
        path: &str,
        place: Option<(&str, &str)>,
        from: IpAddr,
    ) -> Result<Option<Standing>, OverQuota> {
        let table = self.table.load();
        let Some(rule) = table.find(path, place) else { return Ok(None) };
        let (shows, is_audited) = (table.config.shows, table.config.audits);
        let taken = self.buckets.take(rule.id, Source::of(from), &rule.rate, self.clock.now());
        match taken {
            Ok(standing) => Ok(shows.then_some(standing)),
            Err(Refused { standing, retry_after }) => {
                Err(OverQuota { retry_after, standing: shows.then_some(standing), is_audited })
            }
        }
    }

    /// What holds for all of them.
    pub fn config(&self) -> Config {
        self.table.load().config.clone()
    }

    /// Changes what holds for all of them; from the next request on.
    ///
    /// # Errors
    /// What the commit fails with.
    pub async fn set_config(&self, config: Config) -> Result<(), CommitError> {
        let _one = self.changes.lock().await;
        let mut batch = Batch::default();
        self.configs.put(&mut batch, CONFIG, &config);
        self.configs.view().commit(batch).await?;
        let rules = self.table.load().rules().clone();
        self.table.store(Arc::new(Table::of(config, rules)));
        Ok(())
    }

    /// The names of all, sorted, and what they are for.
    pub fn all(&self) -> Vec<(String, Quota)> {
        let table = self.table.load();
        let named = |(name, rule): (&String, &Arc<Rule>)| (name.clone(), rule.quota.clone());
        table.rules().iter().map(named).collect()
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<Quota> {
        self.table.load().rules().get(name).map(|rule| rule.quota.clone())
    }

    /// Writes one. It counts from the next request on, with full buckets.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put(&self, name: &str, quota: Quota) -> Result<(), PutError> {
        let _one = self.changes.lock().await;
        let mut rules = self.table.load().rules().clone();
        let others = || rules.iter().filter(|(other, _)| *other != name);
        if let Some((similar, _)) = others().find(|(_, rule)| rule.quota.target == quota.target) {
            return Err(PutError::Similar(similar.clone()));
        }
        if others().count() >= MOST {
            return Err(PutError::TooMany);
        }
        let rule = self.rule(quota)?;
        let mut batch = Batch::default();
        self.quotas.put(&mut batch, &[name], &rule.quota);
        self.quotas.view().commit(batch).await?;
        rules.insert(name.to_owned(), rule);
        self.replace(rules);
        Ok(())
    }

    /// Takes one away, if it is there.
    ///
    /// # Errors
    /// What the commit fails with.
    pub async fn delete(&self, name: &str) -> Result<(), CommitError> {
        self.remove(|other, _| other == name).await
    }

    /// Takes those of a mount away that is no more. What cannot be written now is taken away when
    /// the vault is opened next, and counts nothing until then.
    pub async fn forget_mount(&self, uuid: &str) {
        self.forget(|other| other == uuid).await;
    }

    async fn forget(&self, is_gone: impl Fn(&str) -> bool) {
        let of_mount = |_: &str, quota: &Quota| match &quota.target {
            Target::Everything => false,
            Target::Mount { uuid, .. } => is_gone(uuid),
        };
        if let Err(error) = self.remove(of_mount).await {
            tracing::warn!(%error, "the quotas of a mount that is gone are still stored");
        }
    }

    async fn remove(&self, is_meant: impl Fn(&str, &Quota) -> bool) -> Result<(), CommitError> {
        let _one = self.changes.lock().await;
        let mut rules = self.table.load().rules().clone();
        let meant = rules.iter().filter(|(name, rule)| is_meant(name, &rule.quota));
        let meant: Vec<String> = meant.map(|(name, _)| name.clone()).collect();
        for names in meant.chunks(REMOVED_AT_ONCE) {
            let mut batch = Batch::default();
            names.iter().for_each(|name| self.quotas.delete(&mut batch, &[name]));
            self.quotas.view().commit(batch).await?;
            rules.retain(|name, _| !names.contains(name));
            self.replace(rules.clone());
        }
        Ok(())
    }

    fn rule(&self, quota: Quota) -> Result<Arc<Rule>, BadRate> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Rule::new(id, quota).map(Arc::new)
    }

    /// Held meanwhile: [`Self::changes`].
    fn replace(&self, rules: BTreeMap<String, Arc<Rule>>) {
        self.table.store(Arc::new(Table::of(self.config(), rules)));
    }
}

const CONFIG: &[&str] = &["config"];

/// Buckets that are kept: 65,536 sources of one quota, or less of several, in five megabytes.
const BUCKETS: usize = 65_536;
/// A commit carries 128 operations.
const REMOVED_AT_ONCE: usize = 100;
/// Quotas that a vault may have; each of them is in memory.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        barrier::{Barrier, SpaceId, fixture},
        clock::{ManualClock, Timestamp},
    };

    struct Site {
        barrier: Arc<Barrier>,
        clock: Arc<ManualClock>,
        quotas: Quotas,
    }

    impl Site {
        async fn new() -> Self {
            let (barrier, ..) = fixture::open();
            let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
            let quotas = load(&barrier, &clock, &["kv", "other"]).await;
            Self { barrier, clock, quotas }
        }

        fn count(&self, path: &str, from: &str) -> Result<Option<Standing>, OverQuota> {
            let place = path.split_once('/');
            self.quotas.count(path, place, from.parse().unwrap())
        }

        fn passed(&self, path: &str, from: &str) -> usize {
            (0..100).filter(|_| self.count(path, from).is_ok()).count()
        }
    }

    async fn load(barrier: &Arc<Barrier>, clock: &Arc<ManualClock>, mounts: &[&str]) -> Quotas {
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        let system = barrier.view(SpaceId::SYSTEM);
        Quotas::load(&system, |uuid| mounts.contains(&uuid), clock).await.unwrap()
    }

    fn of_mount(uuid: &str, rate: f64) -> Quota {
        let target = Target::Mount { uuid: uuid.to_owned(), below: String::new() };
        Quota { target, rate, interval: 60, block_interval: 0, inheritable: None }
    }

    const HERE: &str = "192.0.2.1";

    #[tokio::test]
    async fn a_quota_counts_each_source_by_itself_and_its_mount_alone() {
        let site = Site::new().await;
        assert!(site.quotas.is_empty());
        assert_eq!(site.passed("kv/a", HERE), 100);
        site.quotas.put("q", of_mount("kv", 5.0)).await.unwrap();
        assert_eq!(site.passed("kv/a", HERE), 5);
        assert_eq!(site.passed("kv/b", HERE), 0);
        assert_eq!(site.passed("kv/a", "192.0.2.2"), 5);
        assert_eq!(site.passed("other/a", HERE), 100);
        site.clock.advance(Duration::from_secs(60));
        assert_eq!(site.passed("kv/a", HERE), 5);
    }

    #[tokio::test]
    async fn a_changed_quota_begins_with_full_buckets_and_leaves_others_alone() {
        let site = Site::new().await;
        site.quotas.put("q", of_mount("kv", 5.0)).await.unwrap();
        site.quotas.put("o", of_mount("other", 5.0)).await.unwrap();
        assert_eq!((site.passed("kv/a", HERE), site.passed("other/a", HERE)), (5, 5));
        site.quotas.put("q", of_mount("kv", 7.0)).await.unwrap();
        assert_eq!((site.passed("kv/a", HERE), site.passed("other/a", HERE)), (7, 0));
        site.quotas.delete("q").await.unwrap();
        site.quotas.delete("q").await.unwrap();
        assert_eq!((site.passed("kv/a", HERE), site.passed("other/a", HERE)), (100, 0));
    }

    #[tokio::test]
    async fn there_is_one_for_each_path() {
        let site = Site::new().await;
        site.quotas.put("q", of_mount("kv", 5.0)).await.unwrap();
        let refusal = site.quotas.put("r", of_mount("kv", 6.0)).await.unwrap_err().to_string();
        assert_eq!(refusal, "quota rule with similar properties exists under the name \"q\"");
        assert!(matches!(
            site.quotas.put("q", of_mount("kv", 0.0)).await,
            Err(PutError::Rate(BadRate))
        ));
        assert_eq!(site.quotas.get("q").unwrap().rate, 5.0);
    }

    #[tokio::test]
    async fn what_is_stored_is_read_again_and_ends_with_its_mount() {
        let site = Site::new().await;
        site.quotas.put("q", of_mount("kv", 5.0)).await.unwrap();
        site.quotas.put("o", of_mount("other", 5.0)).await.unwrap();
        let config = Config { exempt_paths: vec!["kv/free".to_owned()], audits: true, shows: true };
        site.quotas.set_config(config.clone()).await.unwrap();

        let again = load(&site.barrier, &site.clock, &["kv"]).await;
        assert_eq!(again.config(), config);
        assert_eq!(again.all(), [("q".to_owned(), of_mount("kv", 5.0))]);
        again.forget_mount("kv").await;
        assert!(load(&site.barrier, &site.clock, &["kv", "other"]).await.is_empty());
    }

    #[tokio::test]
    async fn more_of_them_than_a_commit_takes_end_with_their_mount() {
        let site = Site::new().await;
        for n in 0..150 {
            let target = Target::Mount { uuid: "kv".to_owned(), below: format!("{n}") };
            let quota = Quota { target, ..of_mount("kv", 5.0) };
            site.quotas.put(&format!("q{n}"), quota).await.unwrap();
        }
        site.quotas.put("o", of_mount("other", 5.0)).await.unwrap();
        site.quotas.forget_mount("kv").await;
        let again = load(&site.barrier, &site.clock, &["kv", "other"]).await;
        assert_eq!(again.all(), [("o".to_owned(), of_mount("other", 5.0))]);
    }

    #[tokio::test]
    async fn the_standing_is_told_where_the_configuration_says_so() {
        let site = Site::new().await;
        site.quotas.put("q", of_mount("kv", 1.0)).await.unwrap();
        assert_eq!(site.count("kv/a", HERE), Ok(None));
        let refused = site.count("kv/a", HERE).unwrap_err();
        assert_eq!(refused, OverQuota { retry_after: 60, standing: None, is_audited: false });
        let config = Config { audits: true, shows: true, ..Config::default() };
        site.quotas.set_config(config).await.unwrap();
        let standing = Some(Standing { limit: 1, remaining: 0, reset: 60 });
        let refused = site.count("kv/a", HERE).unwrap_err();
        assert_eq!(refused, OverQuota { retry_after: 60, standing, is_audited: true });
        assert_eq!(site.count("kv/a", "192.0.2.9"), Ok(standing));
    }
}
