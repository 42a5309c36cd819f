use super::*;
use crate::{
    barrier::{SpaceId, fixture},
    engines::transit::{
        Transit,
        key::NoVersion,
        kind::Kind,
        material,
        record::UseRecord,
        uses::{BLOCK, ROTATED_AT, SPENT_AT},
    },
    storage::{Store, Write},
};

struct Fixture {
    view: MountView,
    store: Store,
    keys: Arc<Keys>,
}

impl Fixture {
    fn new() -> Self {
        let (barrier, store, _) = fixture::open();
        Self { view: barrier.view(SpaceId::SYSTEM), store, keys: Arc::default() }
    }

    /// Changes a bit of a record, as a disk may, and forgets what is in memory.
    async fn damage(&mut self, path: &[&str]) {
        let key = self.view.record_key(path).unwrap();
        let mut record = self.store.get(&key).await.unwrap().unwrap();
        *record.last_mut().unwrap() ^= 1;
        fixture::write_behind(&self.store, vec![Write { key, record: Some(record) }]).await;
        self.keys = Arc::default();
    }

    /// The same key after a start, one version of which has reserved so many nonces.
    async fn with_reserved(&mut self, settings: Settings, reserved: u64) -> Arc<Key> {
        let now = Timestamp::from_millis(1);
        let kind = settings.kind().unwrap();
        let record = material::generate(kind, 0, now).await.unwrap();
        let versions = vec![(1, record)];
        let key = self.keys.replace(&self.view, "k", settings, versions).await.unwrap();
        let places = Places::in_space(&self.view);
        let mut batch = Batch::default();
        let path = [key.settings.folder(), "1".to_owned()];
        let record = UseRecord { reserved, ..UseRecord::default() };
        places.uses.put(&mut batch, &path.each_ref().map(String::as_str), &record);
        self.view.commit(batch).await.unwrap();
        self.keys = Arc::default();
        self.get().await
    }

    async fn get(&self) -> Arc<Key> {
        self.keys.get(&self.view, "k").await.unwrap().unwrap()
    }

    async fn reserve(&self, key: &Key, messages: u32) -> Result<bool, ApiError> {
        self.keys.reserve(&self.view, key, &key.versions[&1], messages).await
    }

    async fn reserved(&self, key: &Key) -> u64 {
        Keys::reserved(&self.view, key, &key.versions[&1]).await.unwrap().unwrap()
    }
}

fn settings(kind: Kind) -> Settings {
    Settings::new(new_id(), kind)
}

fn imported() -> Settings {
    Settings { imported: true, ..settings(Kind::Aes256Gcm) }
}

#[tokio::test]
async fn a_key_is_rotated_once_half_of_its_nonces_are_reserved() {
    let mut fixture = Fixture::new();
    let key = fixture.with_reserved(settings(Kind::Aes256Gcm), ROTATED_AT - 2 * BLOCK).await;
    assert!(!fixture.reserve(&key, 1).await.unwrap());
    let key = fixture.with_reserved(settings(Kind::Aes256Gcm), ROTATED_AT - BLOCK + 1).await;
    assert!(fixture.reserve(&key, 1).await.unwrap());
    let transit = Transit::new(Arc::clone(&fixture.keys));
    let now = Timestamp::from_millis(2);
    // Whoever else has found it makes no second version.
    for _ in 0..2 {
        transit.rotate_worn(&fixture.view, &key, now).await.unwrap();
    }
    let rotated = fixture.get().await;
    assert_eq!(rotated.settings.latest, 2);
    // The old version may still be asked for, and rotates nothing more.
    let last = rotated.versions[&1].uses.clone();
    while last.take(1 << 19) {}
    assert!(!fixture.reserve(&rotated, 1).await.unwrap());
}

#[tokio::test]
async fn a_version_is_refused_once_all_its_nonces_are_reserved() {
    for settings in [settings(Kind::Aes128Gcm), settings(Kind::ChaCha20Poly1305), imported()] {
        let mut fixture = Fixture::new();
        let key = fixture.with_reserved(settings, SPENT_AT - BLOCK).await;
        fixture.reserve(&key, 1).await.unwrap();
        assert_eq!(fixture.reserved(&key).await, SPENT_AT);
        // What the last block has left is used up first.
        fixture.reserve(&key, u32::try_from(BLOCK - 1).unwrap()).await.unwrap();
        let refused = fixture.reserve(&key, 1).await.unwrap_err();
        assert!(refused.public[0].contains("rotate the key"), "{refused:?}");
        assert_eq!(fixture.reserved(&key).await, SPENT_AT);
    }
}

#[tokio::test]
async fn an_imported_key_that_may_not_rotate_goes_on_to_the_end() {
    let mut fixture = Fixture::new();
    let key = fixture.with_reserved(imported(), ROTATED_AT).await;
    assert!(!fixture.reserve(&key, 1).await.unwrap());
    let allowed = Settings { allows_rotation: true, ..imported() };
    let key = fixture.with_reserved(allowed, ROTATED_AT).await;
    assert!(fixture.reserve(&key, 1).await.unwrap());
}

#[tokio::test]
async fn a_key_that_is_read_again_goes_on_with_its_block_and_its_counts() {
    let mut fixture = Fixture::new();
    let key = fixture.with_reserved(settings(Kind::Aes256Gcm), 0).await;
    for uses in 1..=3 {
        fixture.keys.set_limit(1);
        let other = format!("other-{uses}");
        let now = Timestamp::from_millis(3);
        let record = material::generate(Kind::Siv, 0, now).await.unwrap();
        let versions = vec![(1, record)];
        let made = fixture.keys.create(&fixture.view, &other, settings(Kind::Siv), versions);
        made.await.unwrap();
        assert!(fixture.keys.known("k").is_none());
        if uses == 2 {
            fixture.keys.write_uses(&fixture.view).await.unwrap();
        }
        let again = fixture.get().await;
        fixture.reserve(&again, 1).await.unwrap();
        again.versions[&1].uses.count_encryptions(1, now);
        assert_eq!(again.versions[&1].uses.encryptions(), uses);
    }
    assert_eq!(fixture.reserved(&key).await, BLOCK);
}

/// A key of two versions, the first of which does not open any more.
async fn half_damaged() -> Fixture {
    let mut fixture = Fixture::new();
    let now = Timestamp::from_millis(1);
    let mut versions = Vec::new();
    for number in [1, 2] {
        let record = material::generate(Kind::Aes256Gcm, 0, now).await.unwrap();
        versions.push((number, record));
    }
    let settings = Settings { latest: 2, ..settings(Kind::Aes256Gcm) };
    let folder = settings.folder();
    fixture.keys.replace(&fixture.view, "k", settings, versions).await.unwrap();
    fixture.damage(&["versions", &folder, "1"]).await;
    fixture
}

#[tokio::test]
async fn a_version_whose_uses_are_damaged_decrypts_and_encrypts_no_more() {
    let mut fixture = Fixture::new();
    let key = fixture.with_reserved(settings(Kind::Aes256Gcm), BLOCK).await;
    fixture.damage(&["uses", &key.settings.folder(), "1"]).await;
    let key = fixture.get().await;
    assert_eq!(key.version_to_read(1).ok().unwrap().number, 1);
    let refused = fixture.reserve(&key, 1).await.unwrap_err();
    assert!(refused.public[0].contains("rotate the key"), "{refused:?}");
    let now = Timestamp::from_millis(2);
    key.versions[&1].uses.count_decryptions(1, now);
    fixture.keys.write_uses(&fixture.view).await.unwrap();
    assert_eq!(fixture.reserved(&key).await, SPENT_AT, "it stays so once it is written anew");
}

#[tokio::test]
async fn a_damaged_version_keeps_none_of_the_others_from_use() {
    let fixture = half_damaged().await;
    let key = fixture.get().await;
    assert_eq!(key.version_to_make(0).ok().unwrap().number, 2);
    assert_eq!(key.version_to_read(2).ok().unwrap().number, 2);
    assert_eq!(key.version_to_read(1).err(), Some(NoVersion::Damaged));
    assert_eq!(key.version_to_make(1).err(), Some(NoVersion::Damaged));
    let trimmed = |key: &Key| {
        let first = Settings { min_decryption: 2, min_available: 2, ..key.settings.clone() };
        Ok(Change::from(first))
    };
    let key = fixture.keys.change(&fixture.view, "k", trimmed).await.unwrap().unwrap();
    assert!(key.unreadable.is_empty());
    assert_eq!(key.version_to_read(1).err(), Some(NoVersion::TooLow));
}

#[tokio::test]
async fn a_damaged_key_is_restored_over_and_removed() {
    let fixture = half_damaged().await;
    let now = Timestamp::from_millis(2);
    let record = material::generate(Kind::Aes256Gcm, 0, now).await.unwrap();
    let new = settings(Kind::Aes256Gcm);
    fixture.keys.replace(&fixture.view, "k", new, vec![(1, record)]).await.unwrap();
    assert!(fixture.get().await.unreadable.is_empty());
    let fixture = half_damaged().await;
    fixture.keys.remove(&fixture.view, "k", |_| Ok(())).await.unwrap().unwrap();
    assert!(fixture.view.list(&["versions"], None, usize::MAX).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_sweep_leaves_a_key_in_the_making_and_takes_what_a_broken_one_left() {
    let fixture = Fixture::new();
    let now = Timestamp::from_millis(1);
    let settings = settings(Kind::Siv);
    let (places, folder) = (Places::in_space(&fixture.view), settings.folder());
    let record = material::generate(Kind::Siv, 0, now).await.unwrap();
    let mut batch = Batch::default();
    mark_removed(&mut batch, &places, &settings);
    places.versions.put(&mut batch, &[&folder, "1"], &record);
    fixture.view.commit(batch).await.unwrap();
    let left = || async {
        fixture.keys.sweep(&fixture.view).await.unwrap();
        fixture.view.list(&["versions"], None, usize::MAX).await.unwrap().len()
    };
    let making = Making::of(&fixture.keys, &folder);
    assert_eq!(left().await, 1);
    drop(making);
    assert_eq!(left().await, 0);
}

#[tokio::test]
async fn who_holds_a_removed_key_writes_nothing_for_it() {
    let mut fixture = Fixture::new();
    let key = fixture.with_reserved(settings(Kind::Aes256Gcm), 0).await;
    key.versions[&1].uses.count_decryptions(1, Timestamp::from_millis(3));
    fixture.keys.remove(&fixture.view, "k", |_| Ok(())).await.unwrap().unwrap();
    assert_eq!(fixture.reserve(&key, 1).await.unwrap_err().status, 409);
    fixture.keys.write_uses(&fixture.view).await.unwrap();
    assert!(fixture.view.list(&["uses"], None, usize::MAX).await.unwrap().is_empty());
}
