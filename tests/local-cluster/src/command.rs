//! The command line of every part, and the place where it runs.

use std::path::PathBuf;

use crate::binaries::Programs;
use crate::certs::{self, Authority, certificate_path, key_path};
use crate::enter::Place;
use crate::part::Part;
use crate::plan::{Netns, NodeName};
use crate::state::State;
use crate::{cgroup, config, machine};

/// The place where a part runs.
pub(crate) fn place(part: Part) -> Place {
    Place {
        netns: Some(part.netns().path()),
        mntns: part.node().map(mount_namespace),
        resolv_conf: None,
        cgroup: Some(cgroup::of_parts(part.netns())),
        session: true,
    }
}

/// The file of a node's mount namespace.
pub(crate) fn mount_namespace(node: NodeName) -> PathBuf {
    PathBuf::from(machine::MOUNT_NAMESPACES).join(node.to_string())
}

/// Where a part's kubeconfig is; its name is the part's user.
pub(crate) fn kubeconfig(state: &State, name: &str) -> PathBuf {
    state.config().join(format!("{name}.kubeconfig"))
}

/// The configuration file of a part that has one.
pub(crate) fn config_file(state: &State, part: Part) -> PathBuf {
    state.config().join(part.slug())
}

/// The ways in which a component asks the API server: for its work, and who its own callers are.
const EVERY_WAY: [&str; 3] = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"];

/// The program of a part with its arguments.
pub(crate) fn line(part: Part, state: &State, programs: &Programs) -> Vec<String> {
    let folder = match part {
        Part::Coredns => programs.coredns.clone(),
        Part::Containerd(_) => PathBuf::from("/usr/bin"),
        Part::Etcd
        | Part::Apiserver
        | Part::ControllerManager
        | Part::Scheduler
        | Part::ClientProxy
        | Part::Kubelet(_)
        | Part::KubeProxy(_) => programs.kubernetes.clone(),
    };
    let mut line = vec![folder.join(part.program()).display().to_string()];
    let flag = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    let clients =
        |names: &[&str], user: &str| -> Vec<String> { names.iter().map(|name| flag(name, kubeconfig(state, user))).collect() };
    match part {
        Part::Etcd => line.extend([
            flag("data-dir", state.etcd_data()),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            // The data go with the cluster: a machine that loses power loses both.
            "--unsafe-no-fsync".into(),
        ]),
        Part::Apiserver => {
            line.extend(config::api_server_flags());
            line.extend(api_server_files(state));
        }
        Part::ControllerManager => {
            line.extend(config::controller_manager_flags());
            line.extend(clients(&EVERY_WAY, "controller-manager"));
            line.extend([
                flag("root-ca-file", certificate_path(state, Authority::CLUSTER)),
                flag("cluster-signing-cert-file", certificate_path(state, Authority::CLUSTER)),
                flag("cluster-signing-key-file", key_path(state, Authority::CLUSTER)),
                flag("service-account-private-key-file", key_path(state, certs::SERVICE_ACCOUNT)),
            ]);
        }
        Part::Scheduler => {
            line.extend(["--bind-address=127.0.0.1".into(), "--leader-elect=false".into()]);
            line.extend(clients(&EVERY_WAY, "scheduler"));
        }
        Part::Coredns => line.extend(["-conf".into(), config_file(state, part).display().to_string()]),
        Part::ClientProxy | Part::KubeProxy(_) => line.push(flag("config", config_file(state, part))),
        Part::Containerd(_) => {
            line.extend(["--config".into(), config_file(state, part).display().to_string()]);
        }
        Part::Kubelet(node) => line.extend([
            flag("config", config_file(state, part)),
            flag("kubeconfig", kubeconfig(state, &node.to_string())),
            format!("--hostname-override={node}"),
            format!("--node-ip={}", node.address()),
        ]),
    }
    line
}

fn api_server_files(state: &State) -> Vec<String> {
    let certificate = |name: &str| certificate_path(state, name);
    let key = |name: &str| key_path(state, name);
    [
        ("client-ca-file", certificate(Authority::CLUSTER)),
        ("tls-cert-file", certificate("kube-apiserver")),
        ("tls-private-key-file", key("kube-apiserver")),
        ("kubelet-certificate-authority", certificate(Authority::CLUSTER)),
        ("kubelet-client-certificate", certificate("apiserver-kubelet-client")),
        ("kubelet-client-key", key("apiserver-kubelet-client")),
        ("requestheader-client-ca-file", certificate(Authority::FRONT_PROXY)),
        ("proxy-client-cert-file", certificate("front-proxy-client")),
        ("proxy-client-key-file", key("front-proxy-client")),
        ("service-account-key-file", certs::service_account_public(state)),
        ("service-account-signing-key-file", key(certs::SERVICE_ACCOUNT)),
        ("audit-policy-file", state.config().join("audit-policy")),
        ("audit-log-path", state.audit_log()),
    ]
    .map(|(name, path)| format!("--{name}={}", path.display()))
    .into()
}

/// The client namespace, with the cluster's names: where commands of `exec` run.
pub(crate) fn client_place(state: &State) -> Place {
    Place { netns: Some(Netns::Client.path()), mntns: None, resolv_conf: Some(state.resolv_conf()), cgroup: None, session: false }
}

/// A node, with its network and its mounts.
pub(crate) fn node_place(node: NodeName) -> Place {
    Place {
        netns: Some(Netns::Node(node).path()),
        mntns: Some(mount_namespace(node)),
        resolv_conf: None,
        cgroup: None,
        session: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(part: Part) -> String {
        let state = State::at("/s".into()).unwrap();
        line(part, &state, &Programs { kubernetes: "/k".into(), coredns: "/c".into(), pause: "/p".into() }).join(" ")
    }

    #[test]
    fn a_command_line_begins_with_the_program_its_identity_is_checked_by() {
        let node = "node-1".parse().unwrap();
        for part in Part::CLUSTER.into_iter().chain(Part::of_node(node)) {
            let line = rendered(part);
            let program = line.split(' ').next().unwrap();
            assert!(program.ends_with(&format!("/{}", part.program())), "{line}");
        }
    }

    #[test]
    fn the_api_server_checks_kubelets_and_writes_an_audit_log() {
        let line = rendered(Part::Apiserver);
        assert!(line.contains("--kubelet-certificate-authority=/s/pki/local-cluster-ca.crt"));
        assert!(line.contains("--audit-log-path=/s/audit.log"));
    }

    #[test]
    fn the_parts_of_a_node_share_its_mounts_and_the_control_plane_has_the_machines() {
        let node = "node-2".parse().unwrap();
        assert_eq!(place(Part::Kubelet(node)).mntns, place(Part::Containerd(node)).mntns);
        assert_eq!(place(Part::Etcd).mntns, None);
        assert_eq!(place(Part::Etcd).netns, Some("/run/netns/lc-control".into()));
    }

    #[test]
    fn commands_in_the_client_namespace_resolve_cluster_names_and_stay_in_their_terminal() {
        let place = client_place(&State::at("/s".into()).unwrap());
        assert_eq!(place.resolv_conf, Some("/s/resolv.conf".into()));
        assert!(!place.session);
    }
}
