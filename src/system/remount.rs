use serde::Serialize;

use super::{System, mounts::with_slash};
use crate::{
    crypto::random,
    gate::{ApiError, Permit},
    mount::MoveError,
    route::{Fields, FromFields, Reply},
};

/// `POST remount`.
pub(super) struct MoveInput {
    from: String,
    to: String,
}

impl FromFields for MoveInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let (from, to) = (fields.text("from")?, fields.text("to")?);
        match (from, to) {
            (Some(from), Some(to)) if !from.is_empty() && !to.is_empty() => {
                Ok(Self { from: with_slash(&from), to: with_slash(&to) })
            }
            _ => Err(ApiError::bad_request(
                "both 'from' and 'to' path must be specified as a string",
            )),
        }
    }
}

/// A move that has been made. The newest are kept, so that they can be asked for.
#[derive(Debug, Clone)]
pub(super) struct Moved {
    id: String,
    from: String,
    to: String,
}

/// How many moves are remembered.
const REMEMBERED: usize = 256;

/// `data` of `POST remount`.
#[derive(Debug, Serialize)]
pub(super) struct MoveOutput {
    migration_id: String,
}

/// `data` of `GET remount/status/:id`.
#[derive(Debug, Serialize)]
pub(super) struct StatusOutput {
    migration_id: String,
    migration_info: InfoOutput,
}

#[derive(Debug, Serialize)]
struct InfoOutput {
    source_mount: String,
    status: &'static str,
    target_mount: String,
}

impl System {
    /// `POST remount`.
    ///
    /// Differs from Vault: the mount has moved when this answers, since no data moves.
    pub(super) async fn remount(
        &self,
        _: &Permit<'_>,
        input: MoveInput,
    ) -> Result<Reply<MoveOutput>, ApiError> {
        let MoveInput { from, to } = input;
        self.open()?.mounts.relocate(&from, &to).await.map_err(|error| match error {
            MoveError::Commit(error) => error.into(),
            MoveError::Absent(_)
            | MoveError::Protected(_)
            | MoveError::Destination(_)
            | MoveError::PathInUse(_)
            | MoveError::BadPath(_) => ApiError::bad_request(error.to_string()),
        })?;
        let id = random::uuid();
        let mut moved = self.moved();
        if moved.len() == REMEMBERED {
            moved.pop_front();
        }
        moved.push_back(Moved { id: id.clone(), from, to });
        Ok(Reply::of(MoveOutput { migration_id: id }).with_copy())
    }

    /// `GET remount/status/:id`: of a move that this server has made since it started.
    pub(super) async fn remount_status(
        &self,
        _: &Permit<'_>,
        MoveId(id): MoveId,
    ) -> Result<Reply<StatusOutput>, ApiError> {
        let moved = self.moved().iter().find(|moved| moved.id == id).cloned();
        let Moved { id, from, to } = moved.ok_or_else(ApiError::not_found)?;
        let info = InfoOutput { source_mount: from, status: "success", target_mount: to };
        Ok(Reply::of(StatusOutput { migration_id: id, migration_info: info }))
    }
}

/// Names a move.
pub(super) struct MoveId(String);

impl FromFields for MoveId {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self(fields.parameter("id").to_owned()))
    }
}
