//! A device alone, on a simulated disk and on a real one.

use std::path::Path;

use super::*;
use crate::{
    clock::{ManualClock, Timestamp},
    crypto::HmacSha256,
    disk::{DiskFile, Fault, Simulator, simulated},
    secret::Key,
};

fn device(path: PathBuf) -> Device {
    device_on(Disk::real(), path)
}

fn device_on(disk: Disk, path: PathBuf) -> Device {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
    let position = || Position { generation: 1, seq: 1, chain: [0; 32] };
    let surroundings = Arc::new(Surroundings { disk, clock, position: Box::new(position) });
    let mac = || Mac::new(&Key::<HmacSha256>::build(|key| key.fill(1)));
    let checkpoints = SigningKey::from_seed(&Key::build(|key| key.fill(2)));
    let config = DeviceConfig { name: "file".to_owned(), id: [1; 16], path, hash_paths: false };
    Device::new(
        config,
        AuditKeys { leaves: mac(), chain: mac(), checkpoints },
        None,
        None,
        surroundings,
    )
}

/// How often the file that any crash may leave names this event, at least.
fn fewest(simulator: &Simulator, event: &str) -> usize {
    let crashes = simulator.crashes(simulator.operations(), 1);
    let count = |disk: &Disk| {
        let bytes = disk.read(FILE.as_ref(), 1 << 20).unwrap_or_default();
        String::from_utf8_lossy(&bytes).matches(event).count()
    };
    crashes.iter().map(|crash| count(&crash.disk)).min().unwrap()
}

const FILE: &str = "/audit.log";

#[test]
fn what_a_failed_sync_left_in_doubt_is_written_again() {
    let (disk, simulator) = simulated();
    let device = device_on(disk, FILE.into());
    device.open().unwrap();
    device.notice(&Notice::IndexRebuilt).unwrap();
    simulator.fail(1, Fault::SyncFails);
    device.tick();
    assert!(device.error().is_some());
    assert_eq!(fewest(&simulator, "index_rebuilt"), 0);
    device.tick();
    assert_eq!((device.error(), fewest(&simulator, "index_rebuilt")), (None, 1));
}

#[test]
fn an_opening_that_failed_anywhere_takes_nothing_from_the_next_one() {
    for fault in [Fault::Eio, Fault::SyncFails] {
        for nth in 1.. {
            let (disk, simulator) = simulated();
            let device = device_on(disk, FILE.into());
            simulator.fail(nth, fault);
            if device.open().is_ok() {
                assert!(nth > 1);
                break;
            }
            device.open().unwrap();
            device.notice(&Notice::IndexRebuilt).unwrap();
            device.tick();
            let place = format!("{fault:?} at call {nth}");
            assert_eq!(fewest(&simulator, "index_rebuilt"), 1, "{place}");
            assert_eq!(fewest(&simulator, "\"type\":\"checkpoint\""), 1, "{place}");
        }
    }
}

/// Number of the last line of a file whose chain is whole.
fn last_line(device: &Device, path: &Path) -> u64 {
    let verifier = Verifier {
        device_id: [1; 16],
        public_key: device.sign.public_key(),
        chain_key: Some(&device.chain_key),
    };
    verifier.file(path).unwrap().last
}

fn swap_file(device: &Device, file: Arc<DiskFile>) -> Arc<DiskFile> {
    let State::Open(writer) = &mut *device.state() else { panic!("not open") };
    mem::replace(&mut writer.file, file)
}

#[test]
fn a_line_that_cannot_be_written_is_an_error_and_leaves_the_chain_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let device = device(path.clone());
    device.open().unwrap();
    device.notice(&Notice::IndexRebuilt).unwrap();
    let good = swap_file(&device, Arc::new(Disk::real().open(&path).unwrap()));
    assert!(device.notice(&Notice::IndexRebuilt).is_err());
    assert!(device.notice(&Notice::IndexRebuilt).is_err());
    assert!(device.error().is_some());

    swap_file(&device, good);
    device.notice(&Notice::IndexRebuilt).unwrap();
    assert_eq!(device.error(), None);
    device.close();
    assert_eq!(last_line(&device, &path), 4);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().last().unwrap().contains("\"missed\":2"), "{text}");
}

/// A line that waits.
fn queued(device: &Device) -> Ticket {
    let mut body = Vec::new();
    Notice::IndexRebuilt.body(device.surroundings.clock.now(), &mut body);
    device.queue_bodies(slice::from_mut(&mut body)).unwrap()
}

#[tokio::test]
async fn lines_that_come_together_are_one_write() {
    let (disk, simulator) = simulated();
    let device = device_on(disk, FILE.into());
    device.open().unwrap();
    let before = simulator.operations();
    let [one, two, three] = [(); 3].map(|()| device.written(queued(&device)));
    let written = tokio::join!(one, two, three);
    assert_eq!(written, (Ok(()), Ok(()), Ok(())));
    assert_eq!(simulator.operations() - before, 1);
    // What nobody waits for is written with the next line, or the next second.
    drop(queued(&device));
    device.tick();
    assert_eq!(fewest(&simulator, "index_rebuilt"), 4);
}

#[tokio::test]
async fn lines_share_the_fate_of_their_write_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let device = device(path.clone());
    device.open().unwrap();
    let good = swap_file(&device, Arc::new(Disk::real().open(&path).unwrap()));
    let [one, two] = [(); 2].map(|()| device.written(queued(&device)));
    let (one, two) = tokio::join!(one, two);
    assert!(one.is_err() && one == two);

    swap_file(&device, good);
    let [one, two] = [(); 2].map(|()| device.written(queued(&device)));
    assert_eq!(tokio::join!(one, two), (Ok(()), Ok(())));
    let late = queued(&device);
    device.close();
    assert_eq!(device.written(late).await, Ok(()));
    assert!(device.queue_bodies(&mut [Vec::new()]).is_err());
    assert_eq!(last_line(&device, &path), 5);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().last().unwrap().contains("\"missed\":2"), "{text}");
}

#[test]
fn lines_that_were_chained_to_those_of_a_failed_write_fail_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let device = device(path.clone());
    device.open().unwrap();
    let good = swap_file(&device, Arc::new(Disk::real().open(&path).unwrap()));
    let failing = queued(&device);
    let mut batch = match &mut *device.state() {
        State::Open(writer) => writer.take().unwrap(),
        State::Failed { .. } | State::Closed => panic!("not open"),
    };
    let behind = queued(&device);
    let written = batch.write();
    if let State::Open(writer) = &mut *device.state() {
        writer.settle(batch, &written);
    }
    swap_file(&device, good);
    for ticket in [&failing, &behind] {
        assert!(device.write_with_others(ticket).is_err());
    }
    device.write_with_others(&queued(&device)).unwrap();
    device.close();
    assert_eq!(last_line(&device, &path), 3);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().last().unwrap().contains("\"missed\":2"), "{text}");
}

#[test]
fn what_a_failed_write_left_is_cut_off_before_the_next_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let device = device(path.clone());
    device.open().unwrap();
    if let State::Open(writer) = &mut *device.state() {
        writer.file.write_all_at(b"{\"time\":\"20", writer.length).unwrap();
        writer.torn = true;
    }
    device.notice(&Notice::IndexRebuilt).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(!text.contains("\"20{"));
}
