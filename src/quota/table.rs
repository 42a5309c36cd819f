use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{BadRate, Config, Quota, Rate, Target};

/// From a path to its quota: the quotas of a vault, in the form in which requests ask for them.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) config: Config,
    rules: BTreeMap<String, Arc<Rule>>,
    everything: Option<Arc<Rule>>,
    mounts: HashMap<String, Within>,
}

/// A quota that is counted.
#[derive(Debug)]
pub(super) struct Rule {
    /// Names its buckets; another one after each change.
    pub(super) id: u64,
    pub(super) quota: Quota,
    pub(super) rate: Rate,
}

/// The quotas of one mount.
#[derive(Debug, Default)]
struct Within {
    whole: Option<Arc<Rule>>,
    exact: HashMap<String, Arc<Rule>>,
    /// What paths begin with, the longest first.
    begins: Vec<(String, Arc<Rule>)>,
}

impl Rule {
    pub(super) fn new(id: u64, quota: Quota) -> Result<Self, BadRate> {
        let rate = quota.counted()?;
        Ok(Self { id, quota, rate })
    }
}

impl Table {
    pub(super) fn of(config: Config, rules: BTreeMap<String, Arc<Rule>>) -> Self {
        let mut table =
            Self { config, rules: BTreeMap::new(), everything: None, mounts: HashMap::new() };
        for rule in rules.values() {
            table.place(rule);
        }
        for within in table.mounts.values_mut() {
            within.begins.sort_by_key(|(begins, _)| std::cmp::Reverse(begins.len()));
        }
        Self { rules, ..table }
    }

    fn place(&mut self, rule: &Arc<Rule>) {
        let rule = Arc::clone(rule);
        let Target::Mount { uuid, below } = &rule.quota.target else {
            self.everything = Some(rule);
            return;
        };
        let within = self.mounts.entry(uuid.clone()).or_default();
        match below.strip_suffix('*') {
            Some(begins) => within.begins.push((begins.to_owned(), rule)),
            None if below.is_empty() => within.whole = Some(rule),
            None => {
                within.exact.insert(below.clone(), rule);
            }
        }
    }

    pub(super) fn rules(&self) -> &BTreeMap<String, Arc<Rule>> {
        &self.rules
    }

    /// Whether nothing is counted.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The quota of a path, which lies in a mount or in none. The most specific one counts alone.
    pub(super) fn find(&self, path: &str, place: Option<(&str, &str)>) -> Option<&Rule> {
        if self.config.exempt_paths.iter().any(|exempt| covers(exempt, path)) {
            return None;
        }
        let within = place.and_then(|(mount, below)| Some((self.mounts.get(mount)?, below)));
        let found = within.and_then(|(within, below)| within.find(below));
        found.or(self.everything.as_ref()).map(Arc::as_ref)
    }
}

impl Within {
    fn find(&self, below: &str) -> Option<&Arc<Rule>> {
        // A list of a folder is asked with a slash at its end, or without.
        let exact = self.exact.get(below.strip_suffix('/').unwrap_or(below));
        let begins = || self.begins.iter().find(|(begins, _)| below.starts_with(begins.as_str()));
        exact.or_else(|| begins().map(|(_, rule)| rule)).or(self.whole.as_ref())
    }
}

/// Whether a path is the exempt one or lies below it; with an asterisk at its end, whether it begins
/// so.
///
/// Differs from Vault: `sys/health` does not cover `sys/healthy`.
fn covers(exempt: &str, path: &str) -> bool {
    if let Some(begins) = exempt.strip_suffix('*') {
        return path.starts_with(begins);
    }
    let exempt = exempt.trim_matches('/');
    let Some(rest) = path.strip_prefix(exempt) else { return false };
    !exempt.is_empty() && (rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(below: Option<&str>) -> Quota {
        let target = match below {
            None => Target::Everything,
            Some(below) => Target::Mount { uuid: "kv".to_owned(), below: below.to_owned() },
        };
        Quota { target, rate: 1.0, interval: 1, block_interval: 0, inheritable: None }
    }

    fn table(quotas: &[(&str, Option<&str>)]) -> Table {
        let rule = |(name, below): &(&str, Option<&str>)| {
            ((*name).to_owned(), Arc::new(Rule::new(1, quota(*below)).unwrap()))
        };
        Table::of(Config::default(), quotas.iter().map(rule).collect())
    }

    fn found(table: &Table, path: &str) -> String {
        let place = path.strip_prefix("kv/").map(|below| ("kv", below));
        match table.find(path, place).map(|rule| &rule.quota.target) {
            None => "none".to_owned(),
            Some(Target::Everything) => "everything".to_owned(),
            Some(Target::Mount { below, .. }) => format!("kv/{below}"),
        }
    }

    #[test]
    fn the_most_specific_quota_counts() {
        let table = table(&[
            ("a", None),
            ("b", Some("")),
            ("c", Some("app")),
            ("d", Some("app/*")),
            ("e", Some("app/db/*")),
            ("f", Some("app/db/main")),
        ]);
        for (path, expected) in [
            ("other/x", "everything"),
            ("kv/x", "kv/"),
            ("kv/application", "kv/"),
            ("kv/app", "kv/app"),
            ("kv/app/", "kv/app"),
            ("kv/app/web", "kv/app/*"),
            ("kv/app/db/x", "kv/app/db/*"),
            ("kv/app/db/main", "kv/app/db/main"),
            ("kv/app/db/main/x", "kv/app/db/*"),
        ] {
            assert_eq!(found(&table, path), expected, "{path}");
        }
    }

    #[test]
    fn an_exempt_path_has_no_quota() {
        let table = table(&[("a", None)]);
        for path in ["sys/health", "sys/unseal", "sys/generate-root/update"] {
            assert_eq!(found(&table, path), "none", "{path}");
        }
        for path in ["sys/healthy", "sys/init", "sys/generate-root", "x/sys/health"] {
            assert_eq!(found(&table, path), "everything", "{path}");
        }
    }

    #[test]
    fn exempt_paths_cover_what_is_below_them() {
        for (exempt, path, is_covered) in [
            ("kv/a", "kv/a", true),
            ("kv/a/", "kv/a/b", true),
            ("/kv/a", "kv/a", true),
            ("kv/a", "kv/ab", false),
            ("kv/a*", "kv/ab", true),
            ("", "kv/a", false),
            ("/", "kv/a", false),
            ("*", "kv/a", true),
        ] {
            assert_eq!(covers(exempt, path), is_covered, "{exempt} {path}");
        }
    }
}
