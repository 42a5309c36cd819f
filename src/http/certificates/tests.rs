use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn ensure(folder: &Path, more: &[&str], now: Timestamp) -> Certificates {
    let more: Vec<String> = more.iter().map(|&name| name.to_owned()).collect();
    Certificates::ensure(folder, &more, now).unwrap()
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
}

#[test]
fn the_server_is_named_by_localhost_loopback_and_host() {
    let folder = tempfile::tempdir().unwrap();
    let made = ensure(folder.path(), &["Vault.Example", "10.1.2.3"], NOW);
    assert_eq!(made.outcome, Outcome::Made);
    let chain = chain(&made.server);
    let x509 = parse(&chain[0], &made.server).unwrap();
    let mut wanted = BTreeSet::from([
        Name::Host("localhost".into()),
        Name::Host("vault.example".into()),
        Name::Address("127.0.0.1".parse().unwrap()),
        Name::Address("::1".parse().unwrap()),
        Name::Address("10.1.2.3".parse().unwrap()),
    ]);
    wanted.extend(Name::parse(rustix::system::uname().nodename().to_str().unwrap()));
    assert_eq!(names_in(&x509), wanted);
    assert!(!x509.is_ca());
}

#[test]
fn the_server_is_signed_by_the_authority_and_ends_first() {
    let folder = tempfile::tempdir().unwrap();
    let made = ensure(folder.path(), &[], NOW);
    let chain = chain(&made.server);
    let authority = CertificateDer::from_pem_file(&made.authority).unwrap();
    assert_eq!(chain[1], authority);
    let ca = parse(&authority, &made.authority).unwrap();
    let leaf = parse(&chain[0], &made.server).unwrap();
    assert!(ca.is_ca());
    assert_eq!(authority_key_identifier(&leaf), subject_key_identifier(&ca));
    assert!(remaining(&leaf, NOW) <= 825 * DAY);
    assert!(remaining(&ca, NOW) > remaining(&leaf, NOW));
    assert_eq!(made.server_fingerprint, Fingerprint::of(&chain[0]));
    assert_eq!(made.authority_fingerprint.to_string().len(), 32 * 3 - 1);
}

#[test]
fn keys_are_readable_by_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let made = ensure(&folder.path().join("tls"), &[], NOW);
    for file in ["ca-key.pem", "server.pem"] {
        let path = made.server.with_file_name(file);
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(folder.path().join("tls")).unwrap().count(), 3, "nothing is left");
}

#[test]
fn an_exposed_key_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let made = ensure(folder.path(), &[], NOW);
    fs::set_permissions(&made.server, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Certificates::ensure(folder.path(), &[], NOW).unwrap_err();
    assert!(matches!(error, CertificateError::Exposed { mode: 0o640, .. }), "{error}");
}

#[test]
fn a_good_certificate_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let first = ensure(folder.path(), &["a.example"], NOW);
    let again = ensure(folder.path(), &[], NOW.plus(700 * DAY));
    assert_eq!(again.outcome, Outcome::Kept);
    assert_eq!(again.server_fingerprint, first.server_fingerprint);
}

#[test]
fn a_certificate_near_its_end_or_without_a_name_is_renewed_by_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let first = ensure(folder.path(), &[], NOW);
    let named = ensure(folder.path(), &["b.example"], NOW);
    let later = ensure(folder.path(), &["b.example"], NOW.plus(736 * DAY));
    assert_eq!((named.outcome, later.outcome), (Outcome::Renewed, Outcome::Renewed));
    assert_ne!(named.server_fingerprint, first.server_fingerprint);
    assert_ne!(later.server_fingerprint, named.server_fingerprint);
    assert_eq!(later.authority_fingerprint, first.authority_fingerprint);
}

#[test]
fn another_authority_makes_another_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let first = ensure(folder.path(), &[], NOW);
    fs::remove_file(folder.path().join("ca-key.pem")).unwrap();
    let error = Certificates::ensure(folder.path(), &[], NOW).unwrap_err();
    assert!(matches!(error, CertificateError::Differs { .. }), "{error}");
    fs::remove_file(&first.authority).unwrap();
    let again = ensure(folder.path(), &[], NOW);
    assert_eq!(again.outcome, Outcome::Renewed);
    assert_ne!(again.authority_fingerprint, first.authority_fingerprint);
}

#[test]
fn a_damaged_file_is_named_and_left() {
    let folder = tempfile::tempdir().unwrap();
    ensure(folder.path(), &[], NOW);
    let path = folder.path().join("ca-key.pem");
    fs::write(&path, "-----BEGIN").unwrap();
    let error = Certificates::ensure(folder.path(), &[], NOW).unwrap_err();
    assert!(error.to_string().contains("ca-key.pem"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "-----BEGIN");
}

#[test]
fn an_authority_near_its_end_is_said() {
    let folder = tempfile::tempdir().unwrap();
    ensure(folder.path(), &[], NOW);
    let late = NOW.plus(AUTHORITY_LIFE - 100 * DAY);
    let error = Certificates::ensure(folder.path(), &[], late).unwrap_err();
    assert!(matches!(error, CertificateError::AuthorityEnds { .. }), "{error}");
}

#[test]
fn what_is_no_name_is_left_out() {
    for text in ["", "a_b", "-a", "0.0.0.0", "::", "a..b", "ä", "*.a"] {
        assert_eq!(Name::parse(text), None, "{text}");
    }
}
