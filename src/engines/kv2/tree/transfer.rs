use super::{
    super::store,
    Way,
    copy::Copy,
    records::{self, Size},
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
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// How many of the transfers.
    pub(super) secrets: usize,
    /// The copies whose values were written before.
    pub(super) marked: Vec<Copy>,
}

/// Adds transfers to a batch, as many as it carries; one at least.
pub(super) async fn fill(
    batch: &mut Batch,
    permit: &Permit<'_>,
    way: Way,
    transfers: &[Transfer],
) -> Result<Filled, ApiError> {
    let view = permit.storage();
    let mut size = Size::default();
    let mut filled = Filled::default();
    for Transfer { from, to, .. } in transfers {
        // Else it was removed by somebody since it was found.
        if let Some(held) = store::load(view, from).await? {
            let (copy, takes) = match way {
                Way::Move => (None, records::size_of_record(&held)?),
                Way::Copy => {
                    let copy = Copy::of(permit, &held).await?;
                    let takes = copy.size;
                    (Some(copy), takes)
                }
            };
            if !size.add(takes) && !batch.is_empty() {
                if let Some(copy) = copy.filter(|copy| copy.is_marked) {
                    copy.discard(view).await?;
                }
                return Ok(filled);
            }
            match copy {
                None => records::add_move(batch, view, from, to, &held)?,
                Some(copy) => {
                    copy.add_to(batch, view, (from, &held), to)?;
                    filled.marked.extend(copy.is_marked.then_some(copy));
                }
            }
        }
        filled.secrets += 1;
    }
    Ok(filled)
}
