//! Flags and environment → a validated [`Config`]. Every setting is checked before any error returns.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mcp_crds::duration;
use mcp_crds::shard::{
    ADMIN_PORT, CONTROL_PORT, CREDENTIALS_DIR, DATA_PORT, ENV_CONFIG_DIR, ENV_CREDENTIALS_DIR, ENV_DRAIN_TIMEOUT,
    ENV_DRAIN_WINDOW, ENV_KEYS_DIR, ENV_SHARD,
};

use crate::drain::ENDPOINT_LAG;
use crate::peers::LIST_WAIT;
use crate::watch::Folders;

/// The MCP server of one shard.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "mcp-server",
    version,
    about = "Serves a catalog of tools, resources and prompts over MCP Streamable HTTP, on /mcp.",
    long_about = "Serves a catalog of tools, resources and prompts over MCP Streamable HTTP, on /mcp: protocol versions \
                  2026-07-28, 2025-11-25, 2025-06-18 and 2025-03-26 on one URL.\n\n\
                  Two ways to run it:\n  \
                  mcp-server --manifest FILE   serves the catalog of an McpCluster file on this machine, to try it\n  \
                  mcp-server                   is a shard: the operator sets the MCP_* variables and mounts the folders",
    after_help = "Examples:\n  \
                  mcp-server --manifest quickstart.yaml\n  \
                  mcp-server --manifest quickstart.yaml --listen 127.0.0.1:3000 --admin-listen 127.0.0.1:3001\n  \
                  curl -s http://127.0.0.1:9090/metrics\n\n\
                  Exit status: 0 after a drain (SIGTERM) or Ctrl-C; 1 when it cannot start; 2 when a setting or the \
                  manifest is wrong."
)]
pub struct Flags {
    /// Serve the catalog of this McpCluster file without Kubernetes, with its limits and with keys of its own.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,

    /// Where clients connect. Default: 127.0.0.1:8080 with --manifest, else [::]:8080.
    #[arg(long, value_name = "ADDR", env = "MCP_LISTEN")]
    pub listen: Option<String>,

    /// Where /livez, /readyz and /metrics are. Default: port 9090, on 127.0.0.1 with --manifest,
    /// else on the address of --listen.
    #[arg(long, value_name = "ADDR", env = "MCP_ADMIN_LISTEN")]
    pub admin_listen: Option<String>,

    /// Where the operator asks for load and drains. Default: port 9091; with --manifest it is off unless given, and needs
    /// --keys-dir, or nobody could sign a request.
    #[arg(long, value_name = "ADDR", env = "MCP_CONTROL_LISTEN")]
    pub control_listen: Option<String>,

    /// Folder of shard.json.gz and hash.
    #[arg(long, value_name = "DIR", env = ENV_CONFIG_DIR)]
    pub config_dir: Option<PathBuf>,

    /// Folder of keys.json.
    #[arg(long, value_name = "DIR", env = ENV_KEYS_DIR)]
    pub keys_dir: Option<PathBuf>,

    /// Folder of credentials for backends, one file for each: {secret}_{key}.
    #[arg(long, value_name = "DIR", env = ENV_CREDENTIALS_DIR)]
    pub credentials_dir: Option<PathBuf>,

    /// Name of this shard, for the log.
    #[arg(long, value_name = "NAME", env = ENV_SHARD)]
    pub shard: Option<String>,

    /// Over how long a SIGTERM ends held streams, for example 60s.
    #[arg(long, value_name = "SPAN", env = ENV_DRAIN_WINDOW)]
    pub drain_window: Option<String>,

    /// How long a SIGTERM waits for requests, for example 5m.
    #[arg(long, value_name = "SPAN", env = ENV_DRAIN_TIMEOUT)]
    pub drain_timeout: Option<String>,

    /// Threads that serve. Default: what the CPU limit allows.
    #[arg(long, value_name = "N", env = "MCP_WORKERS")]
    pub workers: Option<String>,

    /// text or json. Default: text with --manifest, else as the configuration says.
    #[arg(long, value_name = "FORMAT", env = "MCP_LOG_FORMAT")]
    pub log_format: Option<String>,

    /// The program has tools of its own: it needs no catalog, and runs on this machine when nobody says otherwise.
    #[arg(skip)]
    pub has_code: bool,
}

/// A validated configuration of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the catalog comes from.
    pub source: Source,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the open port is.
    pub admin_listen: SocketAddr,
    /// Where the authenticated port is.
    pub control_listen: Option<SocketAddr>,
    /// Name of this shard.
    pub shard: String,
    /// Of a SIGTERM; what the configuration says, when it is not set.
    pub drain_window: Option<Duration>,
    /// Of a SIGTERM; what the configuration says, when it is not set.
    pub drain_timeout: Option<Duration>,
    /// How long endpoints lag behind placement: [`ENDPOINT_LAG`] but in tests.
    pub endpoint_lag: Duration,
    /// How long it waits for the operator to name the other shards: [`LIST_WAIT`] but in tests.
    pub list_wait: Duration,
    /// Threads that serve.
    pub workers: usize,
    /// JSON lines, text, or as the configuration says.
    pub json_log: Option<bool>,
}

/// Where the catalog comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, once.
    Manifest {
        /// The file; none for a program with nothing but its own.
        file: Option<PathBuf>,
        /// Keys, instead of random ones.
        keys: Option<PathBuf>,
    },
    /// Mounted folders, watched.
    Folders(Folders),
}

/// All that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSettings(pub Vec<String>);

impl std::error::Error for InvalidSettings {}

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            f.write_str(problem)?;
        }
        Ok(())
    }
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// Every setting that is wrong.
    pub fn new(flags: Flags) -> Result<Self, InvalidSettings> {
        let mut problems = Vec::new();
        let on_a_laptop = flags.manifest.is_some() || flags.is_alone();
        let source = source(&flags, &mut problems);
        let everywhere =
            |port| if on_a_laptop { SocketAddr::from((Ipv4Addr::LOCALHOST, port)) } else { (Ipv6Addr::UNSPECIFIED, port).into() };
        let listen = address("--listen", flags.listen.as_deref(), &mut problems).unwrap_or_else(|| everywhere(DATA_PORT));
        let beside = |port| SocketAddr::new(if on_a_laptop { Ipv4Addr::LOCALHOST.into() } else { listen.ip() }, port);
        let admin_listen =
            address("--admin-listen", flags.admin_listen.as_deref(), &mut problems).unwrap_or_else(|| beside(ADMIN_PORT));
        let control_listen = address("--control-listen", flags.control_listen.as_deref(), &mut problems)
            .or_else(|| (!on_a_laptop).then(|| beside(CONTROL_PORT)));
        if on_a_laptop && control_listen.is_some() && flags.keys_dir.is_none() {
            problems.push("--control-listen with --manifest needs --keys-dir: without keys nobody can sign a request".to_owned());
        }
        let drain_window = span("--drain-window", flags.drain_window.as_deref(), &mut problems);
        let drain_timeout = span("--drain-timeout", flags.drain_timeout.as_deref(), &mut problems);
        if let (Some(window), Some(timeout)) = (drain_window, drain_timeout)
            && window > timeout
        {
            problems.push("--drain-window is longer than --drain-timeout".to_owned());
        }
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = flags.workers.map_or(available, |text| {
            text.parse().ok().filter(|workers| (1..=1024).contains(workers)).unwrap_or_else(|| {
                problems.push(format!("--workers {text:?} is not a number from 1 to 1024"));
                available
            })
        });
        let json_log = match flags.log_format.as_deref() {
            None => on_a_laptop.then_some(false),
            Some("json") => Some(true),
            Some("text") => Some(false),
            Some(other) => {
                problems.push(format!("--log-format {other:?} is neither 'text' nor 'json'"));
                None
            }
        };
        match source {
            Some(source) if problems.is_empty() => Ok(Self {
                source,
                listen,
                admin_listen,
                control_listen,
                shard: flags.shard.unwrap_or_else(|| "local".to_owned()),
                drain_window,
                drain_timeout,
                endpoint_lag: ENDPOINT_LAG,
                list_wait: LIST_WAIT,
                workers,
                json_log,
            }),
            _ => Err(InvalidSettings(problems)),
        }
    }

    /// Whether pages of this machine may call: a manifest, served to this machine only.
    pub fn loopback_origins(&self) -> bool {
        matches!(self.source, Source::Manifest { .. }) && self.listen.ip().is_loopback()
    }
}

impl Flags {
    /// A program with tools of its own, and no word of a catalog.
    fn is_alone(&self) -> bool {
        self.has_code && self.manifest.is_none() && self.config_dir.is_none()
    }
}

fn source(flags: &Flags, problems: &mut Vec<String>) -> Option<Source> {
    if flags.manifest.is_some() || flags.is_alone() {
        if flags.config_dir.is_some() {
            problems.push(format!("--manifest and --config-dir ({ENV_CONFIG_DIR}) exclude each other"));
        }
        if flags.credentials_dir.is_some() {
            problems.push("--credentials-dir is not used with --manifest: put the Secrets into the file".to_owned());
        }
        return Some(Source::Manifest { file: flags.manifest.clone(), keys: flags.keys_dir.clone() });
    }
    if flags.config_dir.is_none() {
        problems
            .push(format!("nothing to serve: give --manifest FILE, or --config-dir DIR ({ENV_CONFIG_DIR}) as the operator does"));
    }
    if flags.keys_dir.is_none() {
        problems.push(format!("--keys-dir ({ENV_KEYS_DIR}) is not set"));
    }
    Some(Source::Folders(Folders {
        config: flags.config_dir.clone()?,
        keys: flags.keys_dir.clone()?,
        credentials: flags.credentials_dir.clone().unwrap_or_else(|| PathBuf::from(CREDENTIALS_DIR)),
    }))
}

fn address(flag: &str, text: Option<&str>, problems: &mut Vec<String>) -> Option<SocketAddr> {
    let text = text?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        problems.push(format!("{flag} {text:?} is not an address with a port, for example 127.0.0.1:8080 or [::]:8080"));
    }
    parsed
}

fn span(flag: &str, text: Option<&str>, problems: &mut Vec<String>) -> Option<Duration> {
    match duration::parse(text?) {
        Ok(span) => Some(span),
        Err(error) => {
            problems.push(format!("{flag}: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Flags {
        Flags { config_dir: Some("/c".into()), keys_dir: Some("/k".into()), ..Flags::default() }
    }

    #[test]
    fn a_shard_listens_everywhere_and_a_laptop_only_to_itself() {
        let config = Config::new(shard()).unwrap();
        assert_eq!(config.listen, "[::]:8080".parse().unwrap());
        assert_eq!(config.control_listen, Some("[::]:9091".parse().unwrap()));
        let config = Config::new(Flags { manifest: Some("m.yaml".into()), ..Flags::default() }).unwrap();
        assert_eq!((config.listen, config.admin_listen), ("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:9090".parse().unwrap()));
        assert_eq!(config.control_listen, None);
        assert!(config.loopback_origins());
    }

    #[test]
    fn all_bad_settings_are_reported_together() {
        let flags = Flags {
            listen: Some("8080".to_owned()),
            admin_listen: Some("localhost".to_owned()),
            drain_window: Some("1d".to_owned()),
            workers: Some("0".to_owned()),
            log_format: Some("xml".to_owned()),
            ..Flags::default()
        };
        let InvalidSettings(problems) = Config::new(flags).unwrap_err();
        for what in
            ["--listen", "--admin-listen", "--drain-window", "--workers", "--log-format", "nothing to serve", "--keys-dir"]
        {
            assert!(problems.iter().any(|problem| problem.contains(what)), "{what}: {problems:?}");
        }
    }

    #[test]
    fn a_program_needs_no_catalog_and_is_a_shard_when_it_is_given_one() {
        let alone = Config::new(Flags { has_code: true, ..Flags::default() }).unwrap();
        assert_eq!(alone.source, Source::Manifest { file: None, keys: None });
        assert!(alone.listen.ip().is_loopback() && alone.control_listen.is_none());
        let pod = Config::new(Flags { has_code: true, ..shard() }).unwrap();
        assert!(matches!(pod.source, Source::Folders(_)) && pod.control_listen.is_some());
    }

    #[test]
    fn a_manifest_excludes_a_mounted_configuration() {
        let flags = Flags { manifest: Some("m.yaml".into()), ..shard() };
        assert!(Config::new(flags).unwrap_err().to_string().contains("exclude"));
    }

    #[test]
    fn the_help_is_complete() {
        use clap::CommandFactory as _;
        Flags::command().debug_assert();
    }
}
