//! `status`: what runs, in a table.

use crate::cluster::Cluster;
use crate::error::Result;
use crate::network;
use crate::process::Life;
use crate::run::output;

/// Prints the state of the cluster. Returns whether everything runs.
pub(crate) fn print(cluster: &Cluster) -> Result<bool> {
    println!("state       {}", cluster.state.dir().display());
    println!("kubeconfig  {}", cluster.state.kubeconfig().display());
    println!("\n{:<24}{:<10}PID", "PART", "STATE");
    let mut healthy = true;
    for part in cluster.record.parts() {
        let life = cluster.life(part);
        healthy &= life == Life::Running;
        let state = match life {
            Life::Running => "running",
            Life::Paused => "paused",
            Life::Dead => "dead",
        };
        let pid = match (life, cluster.record.process(part)) {
            (Life::Running | Life::Paused, Some(process)) => process.pid.to_string(),
            (Life::Dead, _) | (_, None) => "-".into(),
        };
        println!("{:<24}{state:<10}{pid}", part.to_string());
    }
    println!("\n{:<24}CABLE", "NODE");
    for name in cluster.record.node_names() {
        let plugged = network::is_plugged(name)?;
        healthy &= plugged;
        println!("{:<24}{}", name.to_string(), if plugged { "in" } else { "cut" });
    }
    println!();
    match output(&mut cluster.kubectl(&["get", "nodes", "--request-timeout=3s"])) {
        Ok(nodes) => print!("{nodes}"),
        Err(error) => {
            healthy = false;
            println!("the API server does not answer: {error}");
        }
    }
    Ok(healthy)
}
