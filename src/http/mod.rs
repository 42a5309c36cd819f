//! The HTTPS edge; the only home of axum and the TLS server.
//!
//! It carries requests to the pipeline and releases back, and keeps clients from taking more than
//! their share of time, memory and connections on the way. It judges nobody.
//!
//! - `certificates.rs`: [`Certificates`], what `kista up` makes

mod certificates;

pub use certificates::{CertificateError, Certificates, Fingerprint, Outcome};
