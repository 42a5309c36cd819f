//! The HTTPS edge; the only home of axum and the TLS server.
