//! What a server tells of itself, and of the one who asks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kista::{
    client::{Client, Error, Health, Pin, SealStatus},
    clock,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Check;
use crate::server::Server;

/// All that can be learned with what the caller has.
pub(crate) async fn checks(server: &Server) -> Vec<Check> {
    let mut checks = Vec::new();
    let asked_at = now();
    let health = match server.client.sys().health().await {
        Ok(health) => health,
        Err(error) => {
            let failure = server.explain("reach the server", error).await;
            return vec![Check::failed("server", failure)];
        }
    };
    let took = now().saturating_sub(asked_at);
    let address = server.client.address();
    checks.push(Check::ok("server", format!("{address}, version {}", health.version)));
    checks.push(tls(address).await);
    checks.push(clock_check(&health, asked_at + took / 2, took));
    let status = server.client.sys().seal_status().await;
    match &status {
        Ok(status) => checks.extend(seal(status)),
        Err(_) => checks.push(Check::skip("seal", "the server does not tell")),
    }
    if !health.initialized || health.sealed {
        return checks;
    }
    checks.push(token(server).await);
    checks.push(slots(server).await);
    checks.push(verified(server).await);
    checks
}

/// Whether what is said stays between the two, and until when.
async fn tls(address: &str) -> Check {
    let Some(authority) = address.strip_prefix("https://") else {
        let is_near = ["127.", "localhost", "[::1]"].iter().any(|near| {
            address.strip_prefix("http://").is_some_and(|authority| authority.starts_with(near))
        });
        return if is_near {
            Check::warn(
                "TLS",
                "plain HTTP, on this machine alone",
                "other users of this machine may take the port when the server is down: give it a \
                 certificate",
            )
        } else {
            Check::fail(
                "TLS",
                "plain HTTP: tokens and values can be read on the way",
                "give the server a certificate: kista server --help",
            )
        };
    };
    let Some(ends) = certificate_ends(address).await else {
        return Check::ok(
            "TLS",
            format!("{authority} is trusted; its certificate is not understood"),
        );
    };
    let left = ends.saturating_sub(i64::try_from(now().as_secs()).unwrap_or(i64::MAX));
    let renew =
        "renew it; the one that `kista up` has made is renewed when `kista up` starts again";
    match left / DAY {
        // A pinned certificate is trusted beyond its end.
        _ if left <= 0 => Check::fail("TLS", "the certificate has ended", renew),
        days if days < 14 => {
            Check::warn("TLS", format!("the certificate ends in {days} days"), renew)
        }
        days => Check::ok("TLS", format!("trusted; the certificate ends in {days} days")),
    }
}

/// Seconds since 1970 when the certificate that the server shows ends.
async fn certificate_ends(address: &str) -> Option<i64> {
    let pin = Pin::unknown();
    let client = Client::builder(address).pin(&pin).retries(0).build().ok()?;
    // It is refused, as it must be: what was shown is all that is wanted.
    drop(client.sys().health().await);
    let shown = pin.shown();
    let (_, certificate) = X509Certificate::from_der(shown.first()?).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn clock_check(health: &Health, here: Duration, took: Duration) -> Check {
    let difference = here.as_secs().abs_diff(health.server_time_utc);
    let next = "have both machines' clocks set by NTP: timedatectl set-ntp true";
    let found = |difference| {
        format!(
            "this machine's clock and the server's differ by {}",
            clock::format_duration(Duration::from_secs(difference))
        )
    };
    // The answer tells whole seconds, and it took its time.
    match difference.saturating_sub(took.as_secs() + 1) {
        0..=4 => Check::ok("clock", "the server's is this machine's"),
        5..=59 => Check::warn("clock", found(difference), next),
        _ => Check::fail("clock", found(difference), next),
    }
}

fn seal(status: &SealStatus) -> Vec<Check> {
    let mut checks = Vec::new();
    if !status.initialized {
        checks.push(Check::fail("seal", "there is no store yet", "kista operator init"));
    } else if status.sealed {
        checks.push(Check::fail("seal", "the vault is sealed", "kista operator unseal"));
    } else {
        checks.push(Check::ok("seal", "open"));
        for (check, code, found, next) in TOLD {
            match status.warnings.iter().find(|warning| warning.starts_with(code)) {
                Some(warning) => checks.push(Check::fail(check, warning.replace('_', " "), next)),
                None => checks.push(Check::ok(check, found)),
            }
        }
    }
    let others = status
        .warnings
        .iter()
        .filter(|warning| !TOLD.iter().any(|(_, code, _, _)| warning.starts_with(code)));
    for warning in others {
        checks.push(Check::warn("warning", warning.as_str(), "kista status, kista server --help"));
    }
    checks
}

async fn token(server: &Server) -> Check {
    let info = match server.client.own_token().look_up().await {
        Ok(info) => info,
        // Every policy but a bare one lets a token look itself up.
        Err(Error::Denied { .. }) => return Check::skip("token", "it may not look itself up"),
        Err(error) => {
            return Check::failed("token", server.explain("look the token up", error).await);
        }
    };
    let name = info.policies.join(", ");
    if info.policies.iter().any(|policy| policy == "root") {
        return Check::warn(
            "token",
            "a root token is in use, which may do everything",
            "for daily work make one that may do less: kista policy put NAME, then kista token \
             create --policy NAME",
        );
    }
    if info.expire_time.is_none() {
        return Check::ok("token", format!("policies {name}; it does not end"));
    }
    let left = Duration::from_secs(info.ttl);
    let found = format!("policies {name}; it ends in {}", clock::format_duration(left));
    if left < Duration::from_secs(3600) {
        return Check::warn("token", found, "kista token renew, or kista login");
    }
    Check::ok("token", found)
}

/// Machines that open a vault break; then a person must be able to.
async fn slots(server: &Server) -> Check {
    let slots = match server.client.sys().slots().await {
        Ok(slots) => slots,
        Err(Error::Denied { .. }) => {
            return Check::skip("slots", "the token may not see who can open the vault");
        }
        Err(error) => return Check::failed("slots", server.explain("list the slots", error).await),
    };
    let people = slots.iter().filter(|slot| slot.human).count();
    match people {
        0 => Check::fail(
            "slots",
            "no person can open the vault: with the machine its keys are gone",
            "kista operator slot add passphrase, or: slot add shares",
        ),
        _ => Check::ok("slots", format!("{} in all; {people} that a person can open", slots.len())),
    }
}

async fn verified(server: &Server) -> Check {
    let verification = match server.client.sys().verification().await {
        Ok(verification) => verification,
        Err(Error::Denied { .. }) => {
            return Check::skip("store", "the token may not see whether it was verified");
        }
        Err(error) => {
            return Check::failed("store", server.explain("see how the store is", error).await);
        }
    };
    let Some(last) = verification.last else {
        return Check::ok("store", "the first verification since its start goes on");
    };
    let found = format!("{} records, {} at {}", last.records, last.result, last.ended);
    match last.result.as_str() {
        "good" => Check::ok("store", found),
        "tampered" => Check::fail("store", found, "kista operator verify tells what was found"),
        _ => Check::warn("store", found, "kista operator verify --wait"),
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

const DAY: i64 = 24 * 3600;

/// What a server warns of by itself: the check, the warning, what is so without it, and the next step.
const TOLD: [(&str, &str, &str, &str); 4] = [
    (
        "memory",
        "key_memory_not_locked",
        "the keys of the server lie in locked memory, or memory_lock is off",
        "raise its limit to 8 MiB: LimitMEMLOCK=8M in the unit, or ulimit -l 8192; then restart it",
    ),
    (
        "audit",
        "audit_device_failing",
        "no audit device fails",
        "see that its file can be written and its disk is not full: kista status",
    ),
    (
        "disk",
        "disk_space_low",
        "the server has room to write",
        "make room where the data folder is: until then nothing is written",
    ),
    (
        "anchors",
        "anchor_failing",
        "none fails",
        "see that its folder is there and can be written: kista server --help",
    ),
];

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    fn status(sealed: bool, warnings: &[&str]) -> SealStatus {
        SealStatus {
            kind: "shamir".to_owned(),
            initialized: true,
            sealed,
            threshold: 3,
            shares: 5,
            progress: 0,
            version: "2".to_owned(),
            cluster_name: None,
            storage_type: None,
            warnings: warnings.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn states(checks: &[Check]) -> Vec<(&'static str, State)> {
        checks.iter().map(|check| (check.check, check.state)).collect()
    }

    #[test]
    fn what_the_server_warns_of_fails_and_the_rest_is_told_too() {
        let told = ["audit_device_failing: file", "rollback_detected"];
        let checks = seal(&status(false, &told));
        assert_eq!(
            states(&checks),
            [
                ("seal", State::Ok),
                ("memory", State::Ok),
                ("audit", State::Fail),
                ("disk", State::Ok),
                ("anchors", State::Ok),
                ("warning", State::Warn),
            ]
        );
        assert!(checks.iter().filter(|check| check.state != State::Ok).all(|c| c.next.is_some()));
        let sealed = seal(&status(true, &["rollback_detected"]));
        assert_eq!(states(&sealed), [("seal", State::Fail), ("warning", State::Warn)]);
    }

    #[test]
    fn clocks_may_differ_by_what_an_answer_takes() {
        let health = |time: u64| -> Health {
            serde_json::from_str(&format!(
                r#"{{"initialized":true,"sealed":false,"standby":false,"server_time_utc":{time},"version":"2"}}"#
            ))
            .unwrap()
        };
        let at = |time, took| {
            clock_check(&health(time), Duration::from_secs(1000), Duration::from_secs(took)).state
        };
        assert_eq!(at(1000, 0), State::Ok);
        assert_eq!(at(1008, 5), State::Ok);
        assert_eq!(at(980, 0), State::Warn);
        assert_eq!(at(1200, 0), State::Fail);
    }

    #[tokio::test]
    async fn plain_http_is_for_one_machine() {
        assert_eq!(tls("http://127.0.0.1:8200").await.state, State::Warn);
        assert_eq!(tls("http://vault.example:8200").await.state, State::Fail);
    }
}
