use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    barrier::{AuditKeys, AuditMark, Position},
    clock::Clock,
    disk::Disk,
};

use super::{
    chain::SignedCheckpoint,
    device::{Device, DeviceConfig, Surroundings},
    notice::Notice,
    record::{Admitted, Entry},
    tail::Finding,
};

/// All audit devices of an unsealed store.
///
/// With no device there is nothing to do. With one or more, a line counts once one of them has it
/// in its file (write(2); a thread of the broker's own syncs every second), and a call that no
/// device could record fails.
#[derive(Debug)]
pub struct Broker {
    devices: Arc<[Device]>,
    ticker: Ticker,
}

/// A device that cannot write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFailure {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// What the system said.
    pub cause: String,
}

/// How a device does, for `sys/health` and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceHealth {
    /// Its name.
    pub name: String,
    /// Why it cannot write, if so.
    pub error: Option<String>,
}

/// No device could record a line: the call must not be answered. Names every device.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no audit device can write a line: {}", Names(.devices))]
pub struct AuditError {
    /// The devices, all of which failed.
    pub devices: Vec<DeviceFailure>,
}

/// Why the devices were not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Devices are configured and none of them can be used.
    #[error("no audit device can be opened: {}", Names(.devices))]
    NoDevice {
        /// The devices.
        devices: Vec<DeviceFailure>,
    },
    /// No thread to sync them.
    #[error("cannot start the thread that syncs the audit devices")]
    Thread(#[source] io::Error),
}

impl Broker {
    /// Opens the devices of a store that is being unsealed: checks the end of each file, begins
    /// with a synced checkpoint, and starts the thread that syncs. Blocks.
    ///
    /// The files lie on `disk`. `keys` derives a device's keys from its id, `position` tells the
    /// store's newest durable commit. The first device is the one whose checkpoints the store's
    /// head names through `mark`; when another device becomes the first, clear the mark and commit
    /// before it is opened here.
    ///
    /// `kept` are checkpoints that were kept elsewhere: the file of a device has to reach its
    /// newest one, with the same line there.
    ///
    /// What was not as it was left comes back as findings, for log and health. It is on the first
    /// lines of its file already.
    ///
    /// # Errors
    /// [`OpenError`]. A device that cannot be opened beside one that can is not an error: health
    /// names it, and it is tried again every second.
    pub fn open(
        disk: Disk,
        configs: Vec<DeviceConfig>,
        keys: impl Fn(&[u8; 16]) -> AuditKeys,
        mark: AuditMark,
        kept: &[SignedCheckpoint],
        clock: Arc<dyn Clock>,
        position: impl Fn() -> Position + Send + Sync + 'static,
    ) -> Result<(Self, Vec<Finding>), OpenError> {
        let surroundings = Arc::new(Surroundings { disk, clock, position: Box::new(position) });
        let mut mark = Some(mark);
        let devices: Arc<[Device]> = configs
            .into_iter()
            .map(|config| {
                let keys = keys(&config.id);
                let kept = kept.iter().filter(|kept| kept.device_id == config.id);
                let kept = kept.max_by_key(|kept| kept.n).copied();
                Device::new(config, keys, mark.take(), kept, Arc::clone(&surroundings))
            })
            .collect();
        let mut findings = Vec::new();
        let mut failures = Vec::new();
        for device in devices.iter() {
            match device.open() {
                Ok(found) => findings.extend(found),
                Err(cause) => failures.push(failure(device, cause.to_string())),
            }
        }
        if !devices.is_empty() && failures.len() == devices.len() {
            return Err(OpenError::NoDevice { devices: failures });
        }
        for failed in failures {
            tracing::error!(device = %failed.name, error = %failed.cause, "audit device cannot be opened");
        }
        let ticker = Ticker::start(&devices).map_err(OpenError::Thread)?;
        Ok((Self { devices, ticker }, findings))
    }

    /// Whether there is any device.
    pub fn is_enabled(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Records a request, or an answer before it leaves, and before that the line of its request if
    /// it has waited, together with what other requests record now: all of it is one write(2). The
    /// lines have their place when this returns, and are in the files when the future is done.
    ///
    /// # Errors
    /// [`AuditError`] when there are devices and none of them has the lines.
    pub fn lines<'a>(
        &'a self,
        entry: &Entry<'_>,
        before: Option<Admitted<'_>>,
    ) -> impl Future<Output = Result<(), AuditError>> + Send + use<'a> {
        let devices = self.devices.iter();
        let queued: Vec<_> = devices.map(|device| (device, device.queue(entry, before))).collect();
        async move {
            let mut verdict = Verdict::new(&self.devices);
            for (device, ticket) in queued {
                let written = match ticket {
                    Ok(ticket) => device.written(ticket).await,
                    Err(cause) => Err(cause),
                };
                verdict.hear(device, written);
            }
            verdict.pronounce()
        }
    }

    /// Records what the server itself has to tell, and what waits to be recorded. Blocks.
    ///
    /// # Errors
    /// [`AuditError`] when there are devices and none of them has the line.
    pub fn notice(&self, notice: &Notice<'_>) -> Result<(), AuditError> {
        let mut verdict = Verdict::new(&self.devices);
        for device in self.devices.iter() {
            verdict.hear(device, device.notice(notice));
        }
        verdict.pronounce()
    }

    /// The last synced checkpoint of the first device, for who keeps it elsewhere.
    pub fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.devices.first().and_then(Device::synced)
    }

    /// Ends every chain with a synced checkpoint, before the store's last head is written. Lines
    /// are refused after it. Blocks.
    pub fn close(&self) {
        self.ticker.stop();
        for device in self.devices.iter() {
            device.close();
        }
    }

    /// How each device does, in order.
    pub fn health(&self) -> Vec<DeviceHealth> {
        self.devices
            .iter()
            .map(|device| DeviceHealth {
                name: device.config().name.clone(),
                error: device.error(),
            })
            .collect()
    }

    /// What the thread does each second.
    #[cfg(test)]
    pub(crate) fn tick_now(&self) {
        self.devices.iter().for_each(Device::tick);
    }
}

/// Whether any device has a line.
struct Verdict {
    is_written: bool,
    failures: Vec<DeviceFailure>,
}

impl Verdict {
    /// Without a device there is nothing to do.
    fn new(devices: &[Device]) -> Self {
        Self { is_written: devices.is_empty(), failures: Vec::new() }
    }

    fn hear(&mut self, device: &Device, written: Result<(), String>) {
        match written {
            Ok(()) => self.is_written = true,
            Err(cause) => self.failures.push(failure(device, cause)),
        }
    }

    fn pronounce(self) -> Result<(), AuditError> {
        if self.is_written { Ok(()) } else { Err(AuditError { devices: self.failures }) }
    }
}

fn failure(device: &Device, cause: String) -> DeviceFailure {
    let config = device.config();
    DeviceFailure { name: config.name.clone(), path: config.path.clone(), cause }
}

/// Devices in a message, with what to look at.
struct Names<'a>(&'a [DeviceFailure]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, device) in self.0.iter().enumerate() {
            let between = if place == 0 { "" } else { "; " };
            write!(f, "{between}{} ({}): {}", device.name, device.path.display(), device.cause)?;
        }
        Ok(())
    }
}

/// The thread that ticks. It ends with the broker.
#[derive(Debug)]
struct Ticker {
    stopped: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Ticker {
    fn start(devices: &Arc<[Device]>) -> io::Result<Self> {
        let stopped = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = if devices.is_empty() {
            None
        } else {
            let devices = Arc::clone(devices);
            let stopped = Arc::clone(&stopped);
            let run = move || {
                while !is_stopped_within_a_tick(&stopped) {
                    devices.iter().for_each(Device::tick);
                }
            };
            Some(thread::Builder::new().name("audit-sync".to_owned()).spawn(run)?)
        };
        Ok(Self { stopped, thread: Mutex::new(thread) })
    }

    fn stop(&self) {
        let (stopped, changed) = &*self.stopped;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that syncs the audit devices has panicked");
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for one tick; tells whether it was stopped meanwhile.
fn is_stopped_within_a_tick((stopped, changed): &(Mutex<bool>, Condvar)) -> bool {
    let guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
    let (guard, _timeout) = changed
        .wait_timeout_while(guard, TICK, |stopped| !*stopped)
        .unwrap_or_else(PoisonError::into_inner);
    *guard
}

/// Time between two syncs.
const TICK: Duration = Duration::from_secs(1);
