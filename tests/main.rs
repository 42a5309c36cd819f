//! Tests of the whole: one binary, so that everything is linked once.
//!
//! - `architecture.rs`, `forged.rs`: what must not be written
//! - `promises.rs`: what the pages on security name as their proof
//! - `routes.rs`, `kv1.rs`, `kv2.rs`, `kv2_tree.rs`, `mounts.rs`, `rotation.rs`, `slots.rs`: the
//!   library's vault, asked without HTTP
//! - `transit_vectors.rs`: what a peer has encrypted, signed and backed up
//! - `client.rs`: the client for Rust programs, against the real binary
//! - `examples.rs`: the programs that the documentation shows
//! - `homes.rs`: users without a home that can be written, and what commands leave there, of the real binary
//! - `hostile.rs`: clients that stall, flood and lie, against the real binary
//! - `import.rs`: files that become secrets, against the real binary
//! - `quota.rs`: how often clients may ask, and try to unseal
//! - `plain.rs`: everyday commands where there are no versions, against the real binary
//! - `render.rs`: templates with secrets in them, against the real binary
//! - `transit.rs`: the transit engine's behaviour
//! - `transit_vectors.rs`, `transit_wycheproof.rs`: what a peer has encrypted, signed and backed up,
//!   and published vectors, through the API
//! - `run.rs`: programs that start with secrets, against the real binary
//! - `operator.rs`: the commands of operators, against the real binary
//! - `dev.rs`: a server that leaves nothing, of the real binary
//! - `doctor.rs`: what is looked at before something goes wrong, against the real binary
//! - `documents.rs`: what the documents have a reader type
//! - `everyday.rs`: everyday commands on one secret, against the real binary
//! - `mistakes.rs`: what the commonest mistakes are answered with, of the real binary
//! - `shell.rs`: what a shell and a terminal get, against the real binary
//! - `terminal.rs`: questions, bars and colours at a terminal, and Ctrl-C there
//! - `traces.rs`: where values must not be seen, of the real binary
//! - `tour/`: every command, with its JSON and without anybody to read it
//! - `fixture.rs`: what the first version of the format has written
//! - `allocations.rs`: how often a request allocates
//! - `leaks.rs`, `damage.rs`: the real binary, and the files that it makes
//! - `memory.rs`: the real binary, and what its process shows
//! - `audit.rs`: the real binary, and what its audit file tells of a request

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "plain code is clearer in tests and their helpers"
)]

mod allocations;
mod architecture;
mod audit;
mod client;
mod damage;
mod dev;
mod doctor;
mod documents;
mod everyday;
mod examples;
mod fixture;
mod forged;
mod homes;
mod hostile;
mod import;
mod kv1;
mod kv2;
mod kv2_tree;
mod leaks;
mod memory;
mod mistakes;
mod mounts;
mod operator;
mod plain;
mod promises;
mod quota;
mod render;
mod rotation;
mod routes;
mod run;
mod shell;
mod slots;
mod source;
mod support;
mod terminal;
mod tour;
mod traces;
mod transit;
mod transit_vectors;
mod transit_wycheproof;
mod verify;
