use std::time::Duration;

use serde::{Serialize, Serializer};

use super::System;
use crate::{
    barrier::KeyringError,
    clock::format_duration,
    gate::{ApiError, Permit},
    rotation::{
        MAX_OPERATIONS, MIN_INTERVAL, MIN_OPERATIONS, NamesStatus, RotationError, Schedule, Status,
    },
    route::{Fields, FromFields, Nothing, Reply},
};

/// `data` of `GET key-status`.
#[derive(Debug, Serialize)]
pub(super) struct KeyStatusOutput {
    encryptions: u64,
    install_time: String,
    term: u32,
}

/// `data` of `GET rotate/status`.
#[derive(Debug, Serialize)]
pub(super) struct RotationOutput {
    /// `idle`, or what is being done.
    step: &'static str,
    term: u32,
    install_time: String,
    encryptions: u64,
    /// Terms that old records may still be under.
    retiring: Vec<u32>,
    records_left: u64,
    records_total: u64,
    /// Absent while idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    /// Why it does not go on, if it does not; it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    destroyed: Vec<DestroyedOutput>,
    names: NamesOutput,
}

/// `names` in [`RotationOutput`].
#[derive(Debug, Serialize)]
pub(super) struct NamesOutput {
    /// `idle`, or what is being done.
    step: &'static str,
    generation: u32,
    /// The generation that records move away from.
    #[serde(skip_serializing_if = "Option::is_none")]
    retiring: Option<u32>,
    records_left: u64,
    records_total: u64,
    /// Absent while idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    destroyed: Vec<DestroyedNamesOutput>,
}

/// One entry of `destroyed` in [`NamesOutput`].
#[derive(Debug, Serialize)]
pub(super) struct DestroyedNamesOutput {
    generation: u32,
    destroyed_at: String,
}

impl NamesOutput {
    fn of(status: NamesStatus) -> Self {
        let destroyed = status.destroyed.into_iter().map(|destroyed| DestroyedNamesOutput {
            generation: destroyed.generation,
            destroyed_at: destroyed.at.rfc3339(),
        });
        Self {
            step: status.step.word(),
            generation: status.generation.0,
            retiring: status.retiring.map(|generation| generation.0),
            records_left: status.records_left,
            records_total: status.records_total,
            started: status.started.map(|started| started.rfc3339()),
            destroyed: destroyed.collect(),
        }
    }
}

/// One entry of `destroyed` in [`RotationOutput`].
#[derive(Debug, Serialize)]
pub(super) struct DestroyedOutput {
    term: u32,
    destroyed_at: String,
}

impl RotationOutput {
    fn of(status: Status) -> Self {
        let destroyed = status.destroyed.into_iter().map(|destroyed| DestroyedOutput {
            term: destroyed.term,
            destroyed_at: destroyed.at.rfc3339(),
        });
        Self {
            step: status.step.word(),
            term: status.active.id.0,
            install_time: status.active.created.rfc3339(),
            encryptions: status.operations,
            retiring: status.retiring.iter().map(|term| term.id.0).collect(),
            records_left: status.records_left,
            records_total: status.records_total,
            started: status.started.map(|started| started.rfc3339()),
            error: status.error,
            destroyed: destroyed.collect(),
            names: NamesOutput::of(status.names),
        }
    }
}

/// `data` of `GET rotate/config`.
#[derive(Debug, Serialize)]
pub(super) struct ScheduleOutput {
    enabled: bool,
    interval: Interval,
    max_operations: u64,
}

/// Zero is a number and all else a text, as with the peers.
#[derive(Debug)]
struct Interval(u64);

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => serializer.serialize_u64(0),
            seconds => serializer.serialize_str(&format_duration(Duration::from_secs(seconds))),
        }
    }
}

/// `POST rotate/config`; what is not given stays.
pub(super) struct ScheduleInput {
    enabled: Option<bool>,
    interval: Option<Duration>,
    max_operations: Option<u64>,
}

impl FromFields for ScheduleInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let range = MIN_OPERATIONS..=MAX_OPERATIONS;
        let max_operations = match fields.integer("max_operations")? {
            Some(given) => {
                let within = u64::try_from(given).ok().filter(|given| range.contains(given));
                Some(within.ok_or_else(|| {
                    let (least, most) = (range.start(), range.end());
                    let text = format!("max_operations must be in the range [{least},{most}]");
                    ApiError::bad_request(text)
                })?)
            }
            None => None,
        };
        let interval = fields.duration("interval").map_err(|error| {
            let why = error.public.join("; ");
            let field = "Field validation failed: error converting input for field";
            ApiError::bad_request(format!("{field} \"interval\": {why}"))
        })?;
        if interval.is_some_and(|interval| !interval.is_zero() && interval < MIN_INTERVAL) {
            let least = format_duration(MIN_INTERVAL);
            let text = format!("interval must be greater or equal to {least}");
            return Err(ApiError::bad_request(text));
        }
        Ok(Self { enabled: fields.boolean("enabled")?, interval, max_operations })
    }
}

impl System {
    /// `POST rotate`, `POST rotate/keyring`: a new term seals when this answers. The records follow
    /// in the background.
    pub(super) async fn rotate(&self, _: &Permit<'_>, (): ()) -> Result<Reply<Nothing>, ApiError> {
        self.open()?.rotation.start().await.map_err(refused)?;
        Ok(Reply::nothing())
    }

    /// `POST rotate/names`: Kista's own. Names are under a new key when this answers; the records
    /// follow in the background.
    pub(super) async fn rotate_names(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<Nothing>, ApiError> {
        self.open()?.rotation.start_names().await.map_err(refused)?;
        Ok(Reply::nothing())
    }

    /// `GET rotate/status`: Kista's own.
    pub(super) async fn rotation_status(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<RotationOutput>, ApiError> {
        let status = self.open()?.rotation.status().await.map_err(refused)?;
        Ok(Reply::of(RotationOutput::of(status)))
    }

    /// `GET key-status`.
    pub(super) async fn key_status(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<KeyStatusOutput>, ApiError> {
        let open = self.open()?;
        let active = open.ground.barrier.keyring().active();
        let output = KeyStatusOutput {
            encryptions: open.rotation.operations(),
            install_time: active.created.rfc3339(),
            term: active.id.0,
        };
        Ok(Reply::of(output).with_copy())
    }

    /// `GET rotate/config`, `GET rotate/keyring/config`.
    pub(super) async fn read_schedule(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<ScheduleOutput>, ApiError> {
        let schedule = self.open()?.rotation.schedule().await.map_err(refused)?;
        Ok(Reply::of(ScheduleOutput {
            enabled: schedule.enabled,
            interval: Interval(schedule.interval),
            max_operations: schedule.max_operations,
        }))
    }

    /// `POST rotate/config`, `POST rotate/keyring/config`.
    pub(super) async fn write_schedule(
        &self,
        _: &Permit<'_>,
        input: ScheduleInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let open = self.open()?;
        let before = open.rotation.schedule().await.map_err(refused)?;
        let schedule = Schedule {
            enabled: input.enabled.unwrap_or(before.enabled),
            interval: input.interval.map_or(before.interval, |interval| interval.as_secs()),
            max_operations: input.max_operations.unwrap_or(before.max_operations),
        };
        open.rotation.set_schedule(schedule).await.map_err(refused)?;
        Ok(Reply::nothing())
    }
}

fn refused(error: RotationError) -> ApiError {
    match error {
        RotationError::Commit(error) => error.into(),
        RotationError::Read(error) => error.into(),
        RotationError::Keyring(
            error @ (KeyringError::TooManyTerms | KeyringError::NamesMoving),
        ) => ApiError::bad_request(error.to_string()),
        error @ (RotationError::Keyring(_)
        | RotationError::Seal(_)
        | RotationError::Adopt(_)
        | RotationError::StateMismatch { .. }
        | RotationError::Findings { .. }
        | RotationError::Scan(_)
        | RotationError::Erase(_)
        | RotationError::Audit(_)
        | RotationError::Task(_)) => ApiError::internal(error),
    }
}
