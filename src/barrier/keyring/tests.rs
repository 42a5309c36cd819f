use super::{
    super::fixture::{keyring, keyring_bytes, store_id, vector},
    *,
};

fn decode(bytes: Vec<u8>) -> Result<Keyring, KeyringError> {
    Keyring::decode(&store_id(), &SecretBytes::from_vec(bytes))
}

#[test]
fn vectors_of_the_derivations() {
    let term = Key::<Kdf>::build(|key| key.fill(0x11));
    for (n, purpose) in ["record", "nonce", "state", "head", "check"].iter().enumerate() {
        let key = vector(&format!("/kdf/{n}/key"));
        let derived = derive::<Kdf>(store_id(), &term, purpose);
        assert!(derived.expose(|derived| derived == key), "{purpose}");
    }
}

#[test]
fn a_keyring_is_laid_out_as_the_format_says() {
    let keyring = keyring();
    assert!(keyring.encode().expose(|bytes| bytes == keyring_bytes()));
    assert_eq!(keyring.terms().unwrap().active().id, TermId(7));
}

#[test]
fn a_new_keyring_opens_again_in_its_own_store_only() {
    let keyring = Keyring::generate(Timestamp::from_millis(5));
    let encoded = keyring.encode();
    let opened = Keyring::decode(&keyring.store_id(), &encoded).unwrap();
    assert!(opened.encode().expose(|bytes| encoded.expose(|encoded| bytes == encoded)));
    let elsewhere = Keyring::decode(&store_id(), &encoded).unwrap_err();
    assert_eq!(elsewhere, KeyringError::Check(TermId(1)));
}

#[test]
fn every_changed_byte_of_a_term_is_found() {
    for place in 16..80 {
        let mut bytes = keyring_bytes();
        bytes[place] ^= 1;
        assert_eq!(decode(bytes).unwrap_err(), KeyringError::Check(TermId(7)), "{place}");
    }
}

#[test]
fn another_layout_is_refused() {
    let malformed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = keyring_bytes();
        change(&mut bytes);
        decode(bytes).unwrap_err()
    };
    assert_eq!(malformed(|bytes| bytes[0] = 2), KeyringError::Format(2));
    let changes: [fn(&mut Vec<u8>); 9] = [
        |bytes| bytes.clear(),
        |bytes| bytes.push(0),
        |bytes| bytes.truncate(100),
        // No term, an unknown cipher or state, none active.
        |bytes| bytes[1] = 0,
        |bytes| bytes[6] = 9,
        |bytes| bytes[7] = 0,
        |bytes| bytes[7] = 3,
        // An unknown lineage, one that is missing, one secret twice.
        |bytes| bytes[81] = 9,
        |bytes| bytes[81] = 2,
    ];
    for change in changes {
        assert_eq!(malformed(change), KeyringError::Malformed);
    }
    let twice = malformed(|bytes| {
        bytes[80] = 5;
        bytes.extend_from_within(bytes.len() - 37..);
    });
    assert_eq!(twice, KeyringError::Malformed);
}

#[test]
fn every_purpose_and_context_gives_another_key() {
    let keyring = keyring();
    let tag = |mac: &Mac| mac.tag(&[b"same"]);
    let (one, other) = (keyring.audit_keys(&[1; 16]), keyring.audit_keys(&[2; 16]));
    let tags = [
        tag(&keyring.token_mac()),
        tag(&keyring.anchor_mac()),
        tag(&one.leaves),
        tag(&one.chain),
        tag(&other.leaves),
        tag(&other.chain),
        one.checkpoints.public_key(),
        other.checkpoints.public_key(),
    ];
    let different: HashSet<_> = tags.iter().collect();
    assert_eq!(different.len(), tags.len());
}

#[test]
fn a_term_is_made_pending_then_active_and_the_one_before_it_removed() {
    let (one, now) = (keyring(), Timestamp::from_millis(9));
    assert_eq!((one.active().id, one.pending(), one.retiring()), (TermId(7), None, vec![]));
    let (two, id) = one.with_pending(now).unwrap();
    assert_eq!((id, two.active().id), (TermId(8), TermId(7)));
    assert_eq!(two.pending(), Some(TermSummary { id, created: now }));
    assert_eq!(two.with_pending(now).unwrap().1, id);

    assert_eq!(one.with_active(id).unwrap_err(), KeyringError::NotPending(id));
    assert_eq!(two.with_active(TermId(7)).unwrap_err(), KeyringError::NotPending(TermId(7)));
    let two = two.with_active(id).unwrap();
    assert_eq!((two.active().id, two.pending()), (id, None));
    assert_eq!(two.retiring()[0].id, TermId(7));
    let again = Keyring::decode(&store_id(), &two.encode()).unwrap();
    assert_eq!((again.active().id, again.retiring().len()), (id, 1));

    let three = two.without_retiring();
    assert_eq!((three.active().id, three.retiring().len()), (id, 0));
    assert!(three.terms().unwrap().get(TermId(7)).is_none());
    assert_eq!(three.with_pending(now).unwrap().1, TermId(9));
}

#[test]
fn a_keyring_has_no_more_terms_than_a_head_lists() {
    let mut keyring = keyring();
    for _ in 1..MAX_TERMS {
        let (with_one, id) = keyring.with_pending(Timestamp::from_millis(9)).unwrap();
        keyring = with_one.with_active(id).unwrap();
    }
    let full = keyring.with_pending(Timestamp::from_millis(9)).unwrap_err();
    assert_eq!(full, KeyringError::TooManyTerms);
    assert!(Keyring::decode(&store_id(), &keyring.encode()).is_ok());
}

#[test]
fn debug_shows_no_key() {
    assert_eq!(format!("{:?}", keyring()), "Keyring { terms: [(TermId(7), Active)], .. }");
}

#[test]
fn names_have_two_secrets_at_most_while_records_move() {
    let moving = keyring().with_new_names().unwrap();
    assert_eq!(moving.names_generation(), NamesGeneration(2));
    assert_eq!(moving.old_names_generation(), Some(NamesGeneration(1)));
    assert_eq!(moving.with_new_names().unwrap_err(), KeyringError::NamesMoving);
    let opened = Keyring::decode(&store_id(), &moving.encode()).unwrap();
    assert_eq!(opened.old_names_generation(), Some(NamesGeneration(1)));

    let moved = opened.without_old_names();
    assert_eq!(
        (moved.names_generation(), moved.old_names_generation()),
        (NamesGeneration(2), None)
    );
    let space = SpaceId([7; 16]);
    let old = keyring().naming(space).key_of("a").unwrap();
    let new = moved.naming(space).key_of("a").unwrap();
    assert_eq!(opened.naming(space).key_of("a").unwrap(), new);
    assert_eq!(opened.naming(space).previous().unwrap().key_of("a").unwrap(), old);
    assert!(moved.names_cipher(NamesGeneration(1), space).is_none());

    // A third secret, or one of no generation: nothing that was ever written.
    for generation in [[0, 0, 0, 3], [0, 0, 0, 0]] {
        let mut bytes = moving.encode().expose(<[u8]>::to_vec);
        let count = bytes.len() - 5 * SECRET_BYTES - 1;
        bytes[count] += 1;
        bytes.push(Lineage::Names as u8);
        bytes.extend(generation);
        bytes.extend([9; 32]);
        assert_eq!(decode(bytes).unwrap_err(), KeyringError::Malformed);
    }
}
