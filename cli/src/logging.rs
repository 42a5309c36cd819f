//! The server's log: lines on stderr, of Kista's own code only.

use std::io;

use kista::config::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging. A second call changes nothing.
///
/// Only events of this program and its library pass: what other crates trace, such as the frames
/// of a connection, was not written with secrets in mind.
pub(crate) fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    let ours = Targets::new().with_target("kista", level);
    tracing_subscriber::registry().with(lines).with(ours).try_init().unwrap_or_default();
}
