//! The two lines of a request whose first waits for the second.

use std::{
    path::Path,
    sync::Arc,
    task::{Context, Waker},
};

use serde_json::Value;

use super::{
    life::Life,
    site::{AUDIT, file_content},
};
use crate::{
    barrier::SpaceId,
    gate::{
        ApiError, Boxed, Call, Connection, Head, Media, Mounted, Needs, Operation, Permit, Place,
        Probe, Query, RawReply, RequestPath, Slot,
    },
    pipeline::call::{Begun, Identified},
    secret::{SecretBytes, SecretString},
};

/// A mount whose reads change nothing and panic.
struct Panics(Place);

impl Mounted for Panics {
    fn place(&self) -> &Place {
        &self.0
    }

    fn needs(&self, _: Operation, _: &str) -> Needs {
        Needs::TOKEN
    }

    fn reads_change_nothing(&self) -> bool {
        true
    }

    fn exists<'a>(&'a self, _: &'a Probe<'a>) -> Boxed<'a, Result<bool, ApiError>> {
        Box::pin(async { Ok(true) })
    }

    fn dispatch<'a>(
        &'a self,
        _: &'a Permit<'a>,
        _: Call<'a>,
    ) -> Boxed<'a, Result<RawReply, ApiError>> {
        Box::pin(async { panic!("on purpose") })
    }
}

async fn opened() -> Life {
    let mut life = Life::begin();
    assert!(life.start().await && life.init().await && life.unseal().await);
    life
}

/// The lines of the request with this id.
fn lines(life: &Life, id: &str) -> Vec<Value> {
    let content = file_content(&life.disk, Path::new(AUDIT)).unwrap();
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parsed = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap());
    parsed.filter(|line| line["request"]["id"] == id).collect()
}

fn asks(token: SecretString, path: &str) -> Box<Head> {
    Box::new(Head {
        id: ID.to_owned(),
        operation: Operation::Read,
        path: RequestPath::parse(path).unwrap(),
        query: Query::default(),
        token: Some(token),
        namespace: None,
        wrap_ttl: None,
        media: Media::Absent,
        connection: Connection { remote: "192.0.2.1:5".parse().unwrap(), client_certificate: None },
    })
}

#[tokio::test]
async fn a_read_that_panics_has_both_its_lines() {
    let life = opened().await;
    let kista = &life.running().kista;
    let open = kista.vault().unsealed().unwrap();
    let token = SecretString::copy_of(&life.root);
    let session = open.ground.tokens.lookup(&token).await.unwrap().unwrap();
    let place = Place {
        path: "panics/".to_owned(),
        kind: "kv",
        accessor: "kv_0".to_owned(),
        class: "secret",
        space: SpaceId([7; 16]),
    };
    let (mounted, head) = (Arc::new(Panics(place)), asks(token, "panics/a"));
    let identified =
        Identified { open, session, is_last_use: false, mounted, head, slot: Slot::default() };
    let answer = Begun::identified(kista.clone(), identified).call(SecretBytes::copy_of(b"")).await;
    assert_eq!(answer.status(), 500);
    let lines = lines(&life, ID);
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["type"], &lines[1]["type"]), (&"request".into(), &"response".into()));
    assert_eq!(lines[0]["auth"]["policy_results"]["allowed"], true);
    assert_eq!(lines[1]["error"], "internal error");
}

#[tokio::test]
async fn a_read_is_one_write_of_two_lines_and_a_write_is_two() {
    let life = opened().await;
    let root = &life.root;
    let writes = |life: &Life| life.simulator.operations();
    for (operation, path, body, expected) in [
        (Operation::Read, "cubbyhole/a", "", 1),
        (Operation::List, "cubbyhole/", "", 1),
        (Operation::Read, "auth/token/lookup-self", "", 1),
        // A refusal and what may change something tell of the request before anything is done.
        (Operation::Write, "auth/token/lookup", "{}", 2),
        (Operation::Read, "sys/mounts", "", 2),
    ] {
        let before = writes(&life);
        life.running().call(root, operation, path, body).await;
        assert_eq!(writes(&life) - before, expected, "{operation:?} {path}");
    }
}

#[tokio::test]
async fn who_is_refused_and_leaves_meanwhile_has_both_lines() {
    let life = opened().await;
    let kista = &life.running().kista;
    let mut begun = Box::pin(kista.begin(asks(SecretString::copy_of("hvs.wrong"), "cubbyhole/a")));
    let polled = begun.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "it waits for its lines");
    drop(begun);
    kista.vault().unsealed().unwrap().ground.audit.tick_now();
    let lines = lines(&life, ID);
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["type"], &lines[1]["type"]), (&"request".into(), &"response".into()));
    assert!(lines.iter().all(|line| line["error"] == "permission denied"));
}

const ID: &str = "7d1b5b6e-0000-4000-8000-000000000001";
