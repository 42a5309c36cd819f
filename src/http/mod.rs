//! The HTTPS edge; the only home of axum and the TLS server.
//!
//! It carries requests to the pipeline and releases back, and keeps clients from taking more than
//! their share of time, memory and connections on the way. It judges nobody.
//!
//! - `certificates/`: [`Certificates`], what `kista up` makes
//! - `tls.rs`: versions, suites, and proof that a client holds its certificate's key
//! - `listener.rs`: [`Server`], connections and their limits
//! - `crowd.rs`: so many connections of each source; `offences.rs`: sources that broke the rules wait
//! - `pulse.rs`: when a connection has been silent for too long
//! - `service.rs`: one connection's requests
//! - `request.rs`, `response.rs`: between HTTP and the gate
//! - `body.rs`: bodies under limits; `places.rs`: so many requests at once

mod body;
mod certificates;
mod crowd;
mod listener;
mod offences;
mod places;
mod pulse;
mod request;
mod response;
mod service;
#[cfg(test)]
mod tests;
mod tls;

pub use certificates::{CertificateError, Certificates, Fingerprint, Outcome};
pub use listener::{BindError, Server};
pub use tls::TlsError;
