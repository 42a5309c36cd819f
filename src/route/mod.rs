//! The language in which wings describe themselves: patterns, operations, who may come, typed
//! handlers.
//!
//! A wing's table is static and knows nothing of where it is mounted: it is matched on what is left
//! after the mount's own path. A handler is a plain `async fn (&self, &Permit<'_>, Input) ->
//! Result<Reply<Output>, ApiError>`; its input's [`FromFields`] is the only decoding there is. This
//! folder never decides who may come: the gate asks the table and decides.
//!
//! - `fields.rs`: [`Fields`], from text to types
//! - `reply.rs`: [`Reply`]
//! - `table.rs`: [`Routes`], [`Handler`]
//! - `mounted.rs`: [`Mount`], a wing at a place

mod fields;
mod mounted;
mod reply;
mod table;

pub use fields::{Fields, FromFields, is_name, parse_boolean};
pub use mounted::{Engine, Mount};
pub use reply::{IntoRaw, Nothing, Reply};
pub use table::{Handler, Route, Routes};
