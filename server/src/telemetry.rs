//! The log: text or JSON lines on standard error, its level changed while running.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the level of the log. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LogLevel(Option<Arc<reload::Handle<Targets, Registry>>>);

/// Starts the log of this process.
///
/// # Errors
/// When there is one already.
pub fn init(json: bool, level: &str) -> Result<LogLevel, TryInitError> {
    let (filter, handle) = reload::Layer::new(targets(level));
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()?;
    } else {
        registry
            .with(fmt::layer().with_target(false).with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr))
            .try_init()?;
    }
    Ok(LogLevel(Some(Arc::new(handle))))
}

impl LogLevel {
    /// Changes the level. A log that was not started here, in a test or by an application, is left alone.
    pub fn set(&self, level: &str) {
        if let Some(handle) = &self.0 {
            // It fails only when the log has ended.
            let _ = handle.reload(targets(level));
        }
    }
}

/// Our own lines at the level; those of libraries only when something is odd, unless everything is asked for.
fn targets(level: &str) -> Targets {
    let level = level.parse().unwrap_or(LevelFilter::INFO);
    let libraries = if level == LevelFilter::TRACE { LevelFilter::DEBUG } else { level.min(LevelFilter::WARN) };
    Targets::new().with_default(libraries).with_target("mcp_server", level)
}
