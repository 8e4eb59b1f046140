//! One shard as a process, started with what the operator gives a pod.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mcp_crds::load::Member;
use mcp_crds::shard::{ENV_CLUSTER, ENV_CONFIG_DIR, ENV_CREDENTIALS_DIR, ENV_KEYS_DIR, ENV_NAMESPACE, ENV_SHARD};
use tokio::process::{Child, Command};

use crate::folders::Folders;
use crate::group::Group;

/// Name of the cluster that all shards belong to.
const CLUSTER: &str = "fleet";

/// Where the ports of a shard are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) control: SocketAddr,
}

/// A running shard. It ends with this value.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Given once.
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) addresses: Addresses,
    log: PathBuf,
    child: Child,
    /// After the process, so that it can be removed.
    group: Option<Group>,
}

/// Free ports on the loopback interface. They are let go before the shards take them, all at the same time, so that none is
/// given twice.
pub(crate) fn free_addresses(shards: u16) -> Result<Vec<Addresses>, String> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("no free port: {error}"));
    let held: Vec<[TcpListener; 3]> = (0..shards).map(|_| Ok([bind()?, bind()?, bind()?])).collect::<Result<_, String>>()?;
    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| error.to_string());
    let found = held
        .iter()
        .map(|[data, admin, control]| Ok(Addresses { data: address(data)?, admin: address(admin)?, control: address(control)? }));
    found.collect()
}

impl Shard {
    pub(crate) fn start(
        server: &Path,
        number: usize,
        addresses: Addresses,
        folders: &Folders,
        logs: &Path,
        group: Option<Group>,
    ) -> Result<Self, String> {
        let name = format!("{CLUSTER}-{number}");
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = group.as_ref().map_or_else(|| Command::new(server), |group| group.command(server));
        let child = command
            .env_clear()
            .envs([(ENV_CLUSTER, CLUSTER), (ENV_NAMESPACE, "default"), (ENV_SHARD, &name), ("MCP_LOG_FORMAT", "text")])
            .envs([
                (ENV_CONFIG_DIR, folders.config()),
                (ENV_KEYS_DIR, folders.keys_folder()),
                (ENV_CREDENTIALS_DIR, folders.credentials()),
            ])
            .envs([
                ("MCP_LISTEN", addresses.data.to_string()),
                ("MCP_ADMIN_LISTEN", addresses.admin.to_string()),
                ("MCP_CONTROL_LISTEN", addresses.control.to_string()),
                ("MCP_WORKERS", "1".to_owned()),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", server.display()))?;
        Ok(Self { number, name, addresses, log, child, group })
    }

    /// What the other shards are told of it.
    pub(crate) fn member(&self) -> Member {
        Member { name: self.name.clone(), address: self.addresses.control.to_string() }
    }

    /// What the command is told of it.
    pub(crate) fn told(&self) -> serde_json::Value {
        let Addresses { data, admin, .. } = self.addresses;
        serde_json::json!({
            "url": format!("http://{data}/mcp"),
            "admin": format!("http://{admin}"),
            "pid": self.child.id(),
            "group": self.group.as_ref().map(Group::folder),
        })
    }

    /// Fails when the process has ended.
    pub(crate) fn still_runs(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended ({status}): see {}", self.name, self.log.display())),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let found = free_addresses(20).unwrap();
        let ports: BTreeSet<_> = found.iter().flat_map(|a| [a.data, a.admin, a.control]).map(|address| address.port()).collect();
        assert_eq!(ports.len(), 60);
    }
}
