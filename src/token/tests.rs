use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    barrier::fixture,
    clock::ManualClock,
    storage::{Store as Storage, memory::Faults},
};

const HOUR: Duration = Duration::from_secs(3_600);
const LIMITS: TtlLimits =
    TtlLimits { default: Duration::from_secs(768 * 3_600), max: Duration::from_secs(768 * 3_600) };

/// A token store in memory whose clock is turned by hand.
struct Fixture {
    tokens: Store,
    policies: Arc<policy::Store>,
    clock: Arc<ManualClock>,
    storage: Storage,
    faults: Faults,
}

fn fixture() -> Fixture {
    fixture_over(fixture::open())
}

fn fixture_over((barrier, storage, faults): (Arc<Barrier>, Storage, Faults)) -> Fixture {
    let policies = Arc::new(policy::Store::new(&barrier.view(SpaceId::SYSTEM)));
    let clock = fixture::clock();
    let tokens = Store::new(barrier, Arc::clone(&policies), Arc::<ManualClock>::clone(&clock));
    Fixture { tokens, policies, clock, storage, faults }
}

fn names(policies: &[&str]) -> Vec<String> {
    policies.iter().map(|name| (*name).to_owned()).collect()
}

fn spec(policies: &[&str]) -> TokenSpec {
    TokenSpec {
        id: None,
        policies: names(policies),
        no_default_policy: false,
        meta: BTreeMap::new(),
        display_name: "token".into(),
        path: "auth/token/create".into(),
        orphan: Orphan::Child,
        renewable: true,
        ttl: Duration::ZERO,
        explicit_max_ttl: Duration::ZERO,
        period: Duration::ZERO,
        num_uses: 0,
        limits: LIMITS,
        sudo: false,
    }
}

impl Fixture {
    async fn root(&self) -> Arc<Session> {
        let created = self.tokens.create(spec(&["root"]), None).await.unwrap();
        self.session(&created.token).await
    }

    async fn child(&self, parent: &Session, spec: TokenSpec) -> Created {
        self.tokens.create(spec, Some(parent)).await.unwrap()
    }

    /// Makes a child and looks it up.
    async fn child_session(&self, parent: &Session, spec: TokenSpec) -> Arc<Session> {
        let created = self.child(parent, spec).await;
        self.session(&created.token).await
    }

    async fn session(&self, token: &SecretString) -> Arc<Session> {
        self.tokens.lookup(token).await.unwrap().unwrap()
    }

    async fn is_live(&self, session: &Session) -> bool {
        self.tokens.session(session.digest).await.unwrap().is_some()
    }

    async fn refusal(&self, parent: &Session, spec: TokenSpec) -> String {
        self.tokens.create(spec, Some(parent)).await.unwrap_err().to_string()
    }

    async fn sweep_all(&self) -> usize {
        let mut tokens = 0;
        loop {
            let swept = self.tokens.sweep(3).await.unwrap();
            tokens += swept.tokens;
            if !swept.more {
                return tokens;
            }
        }
    }

    async fn records(&self) -> usize {
        self.storage.list(&[0x10], None, 100_000).await.unwrap().len()
    }
}

#[tokio::test]
async fn the_first_root_token_may_do_everything_and_never_expires() {
    let fixture = fixture();
    let created = fixture.tokens.create(spec(&["root"]), None).await.unwrap();
    assert_eq!(created.token.len(), 47);
    assert!(created.token.expose(|token| token.starts_with("hvs.")));
    let session = fixture.session(&created.token).await;
    assert!(session.is_root() && session.entry.is_orphan());
    assert_eq!(session.policies(), ["root"]);
    assert_eq!(session.accessor().len(), 24);
    assert_eq!((session.entry.ttl, session.entry.expires), (Duration::ZERO, None));
    assert!(!session.entry.renewable);
    fixture.clock.advance(HOUR * 100_000);
    assert!(fixture.is_live(&session).await);
}

#[tokio::test]
async fn tokens_are_found_by_themselves_and_their_accessors_only() {
    let fixture = fixture();
    let root = fixture.root().await;
    let created = fixture.child(&root, spec(&["app"])).await;
    let session = fixture.session(&created.token).await;
    assert_eq!(session.entry, created.entry);
    let by_accessor = fixture.tokens.lookup_accessor(session.accessor()).await.unwrap().unwrap();
    assert_eq!(by_accessor.digest, session.digest);
    let lookup = async |token: &str| {
        fixture.tokens.lookup(&SecretString::copy_of(token)).await.unwrap().is_some()
    };
    assert!(!lookup("").await && !lookup("hvs.nothing").await && !lookup("a/b").await);
    assert!(!lookup(session.accessor()).await && !lookup(&session.digest.segment()).await);
    for accessor in ["nothing", "", "a/b"] {
        assert!(fixture.tokens.lookup_accessor(accessor).await.unwrap().is_none());
    }
    let accessors = fixture.tokens.accessors(None, 10).await.unwrap();
    let mut expected = names(&[root.accessor(), session.accessor()]);
    expected.sort();
    assert_eq!(accessors, expected);
}

#[tokio::test]
async fn policies_are_the_parents_or_a_subset_and_default_is_added() {
    let fixture = fixture();
    let root = fixture.root().await;
    let policies =
        async |parent: &Session, spec| fixture.child(parent, spec).await.entry.policies.clone();
    assert_eq!(policies(&root, spec(&[])).await, ["root"]);
    assert_eq!(policies(&root, spec(&["Web", "app"])).await, ["app", "default", "web"]);
    let bare = TokenSpec { no_default_policy: true, ..spec(&["app", "web", "default"]) };
    assert_eq!(policies(&root, bare).await, ["app", "web"]);

    let parent = fixture.child_session(&root, spec(&["app", "web"])).await;
    assert_eq!(policies(&parent, spec(&[])).await, ["app", "default", "web"]);
    assert_eq!(policies(&parent, spec(&["web"])).await, ["default", "web"]);
    let subset = "child policies must be subset of parent";
    assert_eq!(fixture.refusal(&parent, spec(&["app", "other"])).await, subset);
    let sudo = TokenSpec { sudo: true, ..spec(&["other"]) };
    assert_eq!(policies(&parent, sudo).await, ["default", "other"]);
    let root_without_root = TokenSpec { sudo: true, ..spec(&["root"]) };
    assert_eq!(
        fixture.refusal(&parent, root_without_root).await,
        "root tokens may not be created without parent token being root"
    );
}

#[tokio::test]
async fn what_needs_sudo_is_refused_without_it() {
    let fixture = fixture();
    let root = fixture.root().await;
    let parent = fixture.child_session(&root, spec(&["app"])).await;
    let id = || Some(SecretString::copy_of("my-token"));
    for (asked, text) in [
        (TokenSpec { id: id(), ..spec(&[]) }, "specify token id"),
        (TokenSpec { orphan: Orphan::Asked, ..spec(&[]) }, "create orphan token"),
        (TokenSpec { period: HOUR, ..spec(&[]) }, "create periodic token"),
    ] {
        let refusal = fixture.refusal(&parent, asked).await;
        assert_eq!(refusal, format!("root or sudo privileges required to {text}"));
    }
    let granted = TokenSpec { orphan: Orphan::Granted, ..spec(&[]) };
    assert!(fixture.child(&parent, granted).await.entry.is_orphan());
    for sudo in [
        TokenSpec { id: id(), sudo: true, ..spec(&[]) },
        TokenSpec { orphan: Orphan::Asked, sudo: true, ..spec(&[]) },
        TokenSpec { period: HOUR, sudo: true, ..spec(&[]) },
    ] {
        fixture.child(&parent, sudo).await;
    }
}

#[tokio::test]
async fn a_token_of_ones_own_choice_is_unique_and_looks_like_none_of_ours() {
    let fixture = fixture();
    let root = fixture.root().await;
    let custom = |id: &str| TokenSpec { id: Some(SecretString::copy_of(id)), ..spec(&["app"]) };
    let parent = fixture.child_session(&root, custom("mine")).await;
    let child = fixture.child_session(&parent, spec(&[])).await;
    let duplicate = "cannot create a token with a duplicate ID";
    assert_eq!(fixture.refusal(&root, custom("mine")).await, duplicate);
    for id in ["", "s.mine", "hvs.mine", "a b", "ü"] {
        assert!(fixture.refusal(&root, custom(id)).await.starts_with("custom token ID"), "{id}");
    }
    // Not before its children are gone, which would otherwise live again.
    fixture.tokens.revoke(parent.digest).await.unwrap();
    assert_eq!(fixture.refusal(&root, custom("mine")).await, duplicate);
    fixture.sweep_all().await;
    fixture.child(&root, custom("mine")).await;
    assert!(!fixture.is_live(&child).await);
}

#[tokio::test]
async fn times_to_live_are_capped_with_a_warning() {
    let fixture = fixture();
    let root = fixture.root().await;
    let grant = async |spec| {
        let created = fixture.child(&root, spec).await;
        let missing = |warning: &&Warning| !matches!(warning, Warning::NoSuchPolicy(_));
        let warnings = created.warnings.iter().filter(missing).count();
        (created.entry.ttl.as_secs() / 3_600, warnings)
    };
    assert_eq!(grant(spec(&["app"])).await, (768, 0));
    assert_eq!(grant(TokenSpec { ttl: HOUR, ..spec(&["app"]) }).await, (1, 0));
    assert_eq!(grant(TokenSpec { ttl: HOUR * 769, ..spec(&["app"]) }).await, (768, 1));
    let explicit = HOUR * 2;
    assert_eq!(grant(TokenSpec { explicit_max_ttl: explicit, ..spec(&["app"]) }).await, (2, 1));
    let explicit = HOUR * 1_000;
    assert_eq!(grant(TokenSpec { explicit_max_ttl: explicit, ..spec(&["app"]) }).await, (768, 1));
    assert_eq!(grant(TokenSpec { period: HOUR * 3, ..spec(&["app"]) }).await, (3, 0));
    assert_eq!(grant(TokenSpec { ttl: HOUR, ..spec(&["root"]) }).await, (1, 0));

    let ending = fixture.child_session(&root, TokenSpec { ttl: HOUR, ..spec(&["root"]) }).await;
    assert_eq!(
        fixture.refusal(&ending, spec(&["root"])).await,
        "expiring root tokens cannot create non-expiring root tokens"
    );
}

#[tokio::test]
async fn policies_that_do_not_exist_are_warned_of() {
    let fixture = fixture();
    let root = fixture.root().await;
    fixture.policies.put("app", "path \"a\" { capabilities = [\"read\"] }").await.unwrap();
    let created = fixture.child(&root, spec(&["app", "web"])).await;
    assert_eq!(
        created.warnings,
        ["default", "web"].map(|name| Warning::NoSuchPolicy(name.to_owned()))
    );
    assert_eq!(fixture.child(&root, spec(&["root"])).await.warnings, []);
}

#[tokio::test]
async fn a_token_expires_to_the_moment_and_its_children_with_it() {
    let fixture = fixture();
    let root = fixture.root().await;
    let parent = fixture.child_session(&root, TokenSpec { ttl: HOUR, ..spec(&["app"]) }).await;
    let child = fixture.child_session(&parent, TokenSpec { ttl: 2 * HOUR, ..spec(&[]) }).await;
    fixture.clock.advance(HOUR - Duration::from_nanos(1));
    assert!(fixture.is_live(&parent).await && fixture.is_live(&child).await);
    fixture.clock.advance(Duration::from_nanos(1));
    assert!(!fixture.is_live(&parent).await && !fixture.is_live(&child).await);
    assert!(matches!(fixture.tokens.renew(&parent, HOUR, LIMITS).await, Err(RenewError::NotFound)));
    let late = fixture.tokens.create(spec(&[]), Some(&parent)).await;
    assert!(matches!(late, Err(CreateError::ParentGone)));
}

#[tokio::test]
async fn revoking_takes_effect_for_all_below_at_the_next_use() {
    let fixture = fixture();
    let root = fixture.root().await;
    let parent = fixture.child_session(&root, spec(&["app"])).await;
    let child = fixture.child_session(&parent, spec(&[])).await;
    let grandchild = fixture.child_session(&child, spec(&[])).await;
    let beside = fixture.child_session(&root, spec(&["app"])).await;
    let orphan = TokenSpec { orphan: Orphan::Granted, ..spec(&[]) };
    let orphan = fixture.child_session(&parent, orphan).await;
    for session in [&parent, &child, &grandchild] {
        assert!(fixture.is_live(session).await);
    }
    fixture.tokens.revoke(parent.digest).await.unwrap();
    fixture.tokens.revoke(parent.digest).await.unwrap();
    for session in [&parent, &child, &grandchild] {
        assert!(!fixture.is_live(session).await);
        let by_accessor = fixture.tokens.lookup_accessor(session.accessor()).await.unwrap();
        assert!(by_accessor.is_none());
    }
    for session in [&root, &beside, &orphan] {
        assert!(fixture.is_live(session).await);
    }
    let late = fixture.tokens.create(spec(&[]), Some(&parent)).await;
    assert!(matches!(late, Err(CreateError::ParentGone)));
}

#[tokio::test]
async fn a_sweep_leaves_nothing_of_revoked_tokens() {
    let fixture = fixture();
    let root = fixture.root().await;
    let before = fixture.records().await;
    let parent = fixture.child_session(&root, spec(&["app"])).await;
    for _ in 0..5 {
        let child = fixture.child_session(&parent, spec(&[])).await;
        for _ in 0..4 {
            fixture.child(&child, spec(&[])).await;
        }
    }
    assert!(fixture.records().await > before + 26 * 3);
    fixture.tokens.revoke(parent.digest).await.unwrap();
    fixture.sweep_all().await;
    assert_eq!(fixture.records().await, before);
    assert!(fixture.is_live(&root).await);
    assert_eq!(fixture.tokens.sweep(10).await.unwrap(), Swept { tokens: 0, more: false });
}

#[tokio::test]
async fn a_sweep_that_a_restart_cut_off_goes_on_and_nothing_comes_to_life() {
    let before = fixture();
    let root = before.root().await;
    let parent = before.child_session(&root, spec(&["app"])).await;
    let mut below = Vec::new();
    for _ in 0..5 {
        let child = before.child_session(&parent, spec(&[])).await;
        below.push(before.child_session(&child, spec(&[])).await);
        below.push(child);
    }
    before.tokens.revoke(parent.digest).await.unwrap();
    for limit in 1..4 {
        assert!(before.tokens.sweep(limit).await.unwrap().more);
        let after = fixture_over(fixture::reopen(&before.faults));
        for session in &below {
            assert!(!after.is_live(session).await);
        }
        assert!(after.is_live(&root).await);
        after.sweep_all().await;
        assert_eq!(after.tokens.accessors(None, 100).await.unwrap(), [root.accessor()]);
    }
}

#[tokio::test]
async fn a_sweep_takes_expired_tokens_and_spares_renewed_ones() {
    let fixture = fixture();
    let root = fixture.root().await;
    let before = fixture.records().await;
    let hour = || TokenSpec { ttl: HOUR, ..spec(&["app"]) };
    let renewed = fixture.child_session(&root, hour()).await;
    for _ in 0..7 {
        let parent = fixture.child_session(&root, hour()).await;
        fixture.child(&parent, TokenSpec { ttl: 5 * HOUR, ..spec(&[]) }).await;
    }
    fixture.clock.advance(HOUR / 2);
    fixture.tokens.renew(&renewed, 2 * HOUR, LIMITS).await.unwrap();
    assert_eq!(fixture.sweep_all().await, 0);
    fixture.clock.advance(HOUR);
    fixture.sweep_all().await;
    assert!(fixture.is_live(&renewed).await);
    fixture.tokens.revoke(renewed.digest).await.unwrap();
    fixture.sweep_all().await;
    assert_eq!(fixture.records().await, before);
}

#[tokio::test]
async fn revoking_one_alone_makes_orphans_of_its_children() {
    let fixture = fixture();
    let root = fixture.root().await;
    let parent = fixture.child_session(&root, spec(&["app"])).await;
    let child = fixture.child_session(&parent, spec(&[])).await;
    let grandchild = fixture.child_session(&child, spec(&[])).await;
    assert!(fixture.tokens.revoke_orphan(parent.digest).await.unwrap());
    assert!(!fixture.tokens.revoke_orphan(parent.digest).await.unwrap());
    for swept in [false, true] {
        assert!(!fixture.is_live(&parent).await);
        let child = fixture.tokens.session(child.digest).await.unwrap().unwrap();
        let grandchild = fixture.tokens.session(grandchild.digest).await.unwrap().unwrap();
        assert!(child.entry.is_orphan() && !grandchild.entry.is_orphan(), "swept: {swept}");
        fixture.sweep_all().await;
    }
    fixture.tokens.revoke(root.digest).await.unwrap();
    assert!(fixture.is_live(&grandchild).await);
    fixture.tokens.revoke(child.digest).await.unwrap();
    assert!(!fixture.is_live(&grandchild).await);
}

#[tokio::test]
async fn renewing_prolongs_within_the_maximum() {
    let fixture = fixture();
    let root = fixture.root().await;
    let asked = TokenSpec { ttl: 2 * HOUR, explicit_max_ttl: 5 * HOUR, ..spec(&["app"]) };
    let session = fixture.child_session(&root, asked).await;
    let renew = async |increment| fixture.tokens.renew(&session, increment, LIMITS).await;
    fixture.clock.advance(HOUR);
    let renewed = renew(Duration::ZERO).await.unwrap();
    assert_eq!((renewed.ttl, renewed.warnings.len()), (2 * HOUR, 0));
    assert_eq!(renewed.entry.last_renewal, Some(fixture.clock.now()));
    let now = fixture.session_now(&session).await;
    assert_eq!(now.entry.ttl_left(fixture.clock.now()), Some(2 * HOUR));
    fixture.clock.advance(HOUR);
    let renewed = renew(4 * HOUR).await.unwrap();
    assert_eq!((renewed.ttl, renewed.warnings.len()), (3 * HOUR, 1));
    fixture.clock.advance(3 * HOUR);
    assert!(matches!(renew(HOUR).await, Err(RenewError::NotFound)));
}

#[tokio::test]
async fn a_periodic_token_lives_as_long_as_it_is_renewed() {
    let fixture = fixture();
    let root = fixture.root().await;
    let asked = TokenSpec { period: HOUR, ttl: 5 * HOUR, ..spec(&["app"]) };
    let session = fixture.child_session(&root, asked).await;
    assert_eq!(session.entry.ttl, HOUR);
    for _ in 0..800 {
        fixture.clock.advance(HOUR - Duration::from_secs(1));
        assert_eq!(fixture.tokens.renew(&session, 9 * HOUR, LIMITS).await.unwrap().ttl, HOUR);
    }
    fixture.clock.advance(HOUR);
    assert!(!fixture.is_live(&session).await);
}

#[tokio::test]
async fn what_cannot_be_renewed_says_so() {
    let fixture = fixture();
    let root = fixture.root().await;
    let refusal = async |session: &Session| {
        fixture.tokens.renew(session, HOUR, LIMITS).await.unwrap_err().to_string()
    };
    assert_eq!(refusal(&root).await, "invalid lease ID");
    let fixed = TokenSpec { renewable: false, ..spec(&["app"]) };
    let fixed = fixture.child_session(&root, fixed).await;
    assert_eq!(refusal(&fixed).await, "lease is not renewable");
    fixture.tokens.revoke(fixed.digest).await.unwrap();
    assert_eq!(refusal(&fixed).await, "token not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_counted_exactly_whoever_comes_at_once() {
    let fixture = Arc::new(fixture());
    let root = fixture.root().await;
    let asked = TokenSpec { num_uses: 5, ..spec(&["app"]) };
    let created = Arc::new(fixture.child(&root, asked).await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (fixture, created) = (Arc::clone(&fixture), Arc::clone(&created));
        tasks.spawn(async move {
            let session = fixture.tokens.lookup(&created.token).await.unwrap()?;
            fixture.tokens.count_use(session).await.unwrap()
        });
    }
    let mut left = Vec::new();
    while let Some(used) = tasks.join_next().await {
        if let Some(used) = used.unwrap() {
            assert_eq!(used.last, used.session.entry.uses_left == Some(0));
            left.push(used.session.entry.uses_left.unwrap());
        }
    }
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4]);
    assert!(fixture.tokens.lookup(&created.token).await.unwrap().is_none());
    fixture.tokens.revoke(created.digest).await.unwrap();
    fixture.sweep_all().await;
    assert_eq!(fixture.tokens.accessors(None, 10).await.unwrap(), [root.accessor()]);
}

#[tokio::test]
async fn uses_of_other_tokens_are_not_written_and_limited_ones_have_no_children() {
    let fixture = fixture();
    let root = fixture.root().await;
    let used = fixture.tokens.count_use(Arc::clone(&root)).await.unwrap().unwrap();
    assert!(!used.last && Arc::ptr_eq(&used.session, &root));
    let limited = fixture.child_session(&root, TokenSpec { num_uses: 2, ..spec(&["app"]) }).await;
    assert_eq!(
        fixture.refusal(&limited, spec(&[])).await,
        "restricted use token cannot generate child tokens"
    );
}

#[tokio::test]
async fn sessions_are_kept_until_a_token_or_policy_changes() {
    let fixture = fixture();
    let root = fixture.root().await;
    let session = fixture.child_session(&root, spec(&["app"])).await;
    let again = fixture.session_now(&session).await;
    assert!(Arc::ptr_eq(&session, &again));
    fixture.policies.put("app", "path \"a\" { capabilities = [\"read\"] }").await.unwrap();
    let changed = fixture.session_now(&session).await;
    assert!(!Arc::ptr_eq(&session, &changed) && !Arc::ptr_eq(&session.acl, &changed.acl));
    let other = fixture.child_session(&root, spec(&["app"])).await;
    assert!(Arc::ptr_eq(&other.acl, &changed.acl));
    fixture.tokens.revoke(other.digest).await.unwrap();
    assert!(!Arc::ptr_eq(&changed, &fixture.session_now(&session).await));
}

#[tokio::test]
async fn a_tower_of_tokens_has_an_end() {
    let fixture = fixture();
    let mut top = fixture.root().await;
    for _ in 0..256 {
        top = fixture.child_session(&top, spec(&[])).await;
    }
    assert!(matches!(
        fixture.tokens.create(spec(&[]), Some(&top)).await,
        Err(CreateError::TooDeep)
    ));
}

#[tokio::test]
async fn storage_holds_no_token() {
    let fixture = fixture();
    let root = fixture.root().await;
    let planted = TokenSpec { id: Some(SecretString::copy_of("planted-token")), ..spec(&["app"]) };
    fixture.child(&root, planted).await;
    for key in fixture.storage.list(&[0x10], None, 1_000).await.unwrap() {
        let record = fixture.storage.get(&key).await.unwrap().unwrap();
        let bytes = [key, record].concat();
        assert!(!bytes.windows(7).any(|window| window == b"planted"));
    }
}

#[test]
fn names_in_audit_lines_hold_no_strange_characters() {
    assert_eq!(display_name(""), "token");
    assert_eq!(display_name("my app/1"), "token-my-app-1");
    assert_eq!(display_name("ends!"), "token-ends");
}

impl Fixture {
    async fn session_now(&self, session: &Session) -> Arc<Session> {
        self.tokens.session(session.digest).await.unwrap().unwrap()
    }
}
