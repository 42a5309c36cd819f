use super::{
    super::store,
    Act,
    records::{self, Prepared, Size},
};
use crate::{
    barrier::Batch,
    gate::{ApiError, Permit},
};

/// A secret that gets another path.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Its path below the folder that is transferred; empty for one secret.
    pub(super) name: String,
    pub(super) from: String,
    pub(super) to: String,
}

impl Transfer {
    pub(super) fn of(from: &str, to: &str, name: String) -> Self {
        Self { from: format!("{from}{name}"), to: format!("{to}{name}"), name }
    }
}

/// What a commit carries.
#[derive(Debug)]
pub(super) struct Filled {
    /// How many of the transfers.
    pub(super) secrets: usize,
    /// The copy whose values were written before, since no commit carries them all.
    pub(super) prepared: Option<Prepared>,
}

/// Adds transfers to a batch, as many as it carries; one at least.
pub(super) async fn fill(
    batch: &mut Batch,
    permit: &Permit<'_>,
    act: Act,
    transfers: &[Transfer],
) -> Result<Filled, ApiError> {
    let view = permit.storage();
    let mut size = Size::default();
    for (secrets, Transfer { from, to, .. }) in transfers.iter().enumerate() {
        // Removed by somebody since it was found.
        let Some(held) = store::load(view, from).await? else { continue };
        let fits = size.add(match act {
            Act::Move => records::size_moved(&held)?,
            Act::Copy | Act::Delete | Act::Destroy => records::size_copied(view, &held).await?,
        });
        if !fits && !batch.is_empty() {
            return Ok(Filled { secrets, prepared: None });
        }
        if act == Act::Move {
            records::add_move(batch, view, from, to, &held)?;
        } else if fits {
            records::add_copy(batch, view, from, to, &held).await?;
        } else {
            let prepared = records::prepare(permit, &held).await?;
            records::add_prepared(batch, view, from, to, &held, &prepared)?;
            records::add_unmarking(batch, view, &prepared);
            return Ok(Filled { secrets: secrets + 1, prepared: Some(prepared) });
        }
    }
    Ok(Filled { secrets: transfers.len(), prepared: None })
}
