//! `status`: what runs, in a table.

use std::fmt::{self, Write as _};

use crate::cluster::Cluster;
use crate::error::Result;
use crate::network;
use crate::process::Life;
use crate::run::output;

/// The state of the cluster as a table, and whether everything runs.
pub(crate) fn table(cluster: &Cluster) -> Result<(String, bool)> {
    let mut text = String::new();
    add(&mut text, format_args!("state       {}", cluster.state.dir().display()));
    add(&mut text, format_args!("kubeconfig  {}", cluster.state.kubeconfig().display()));
    add(&mut text, format_args!("\n{:<24}{:<10}PID", "PART", "STATE"));
    let mut healthy = true;
    for part in cluster.record.parts() {
        let life = cluster.life(part);
        healthy &= life == Life::Running;
        let state = match life {
            Life::Running => "running",
            Life::Paused => "paused",
            Life::Ending => "ending",
            Life::Dead => "dead",
        };
        let pid = match (life, cluster.record.process(part)) {
            (Life::Running | Life::Paused, Some(process)) => process.pid.to_string(),
            (Life::Dead | Life::Ending, _) | (_, None) => "-".into(),
        };
        add(&mut text, format_args!("{:<24}{state:<10}{pid}", part.to_string()));
    }
    add(&mut text, format_args!("\n{:<24}CABLE", "NODE"));
    for name in cluster.record.node_names() {
        let plugged = network::is_plugged(name)?;
        healthy &= plugged;
        add(&mut text, format_args!("{:<24}{}", name.to_string(), if plugged { "in" } else { "cut" }));
    }
    add(&mut text, format_args!(""));
    match output(&mut cluster.kubectl(&["get", "nodes", "--request-timeout=3s"])) {
        Ok(nodes) => text.push_str(&nodes),
        Err(error) => {
            healthy = false;
            add(&mut text, format_args!("the API server does not answer: {error}"));
        }
    }
    Ok((text, healthy))
}

fn add(text: &mut String, line: fmt::Arguments) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}
