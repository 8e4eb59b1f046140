# Sourced by the scripts beside it: which cluster, and how to reach it.
#
# CLUSTER=local          the cluster of tests/local-cluster on this machine
# CLUSTER=context:NAME   that context of your kubeconfig. KUBECONFIG or a current context alone is never used.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"
cluster=${CLUSTER:-local}
target=${CARGO_TARGET_DIR:-$top/target}
export LOCAL_CLUSTER=$target/debug/local-cluster
system_namespace=mcp-system

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
# Dev builds of binaries and examples. Of the whole workspace, because Cargo compiles a dependency once for each set of features:
# with `-p` each selection has a set of its own, and compiles again what `make check` has.
compile() { cargo build --locked --workspace "$@"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

case $cluster in
  local)
    context=
    # Runs a command beside the cluster: kubectl on the PATH, Services and their names reachable.
    beside() { "$LOCAL_CLUSTER" exec -- "$@"; }
    kube() { beside kubectl "$@"; }
    ;;
  context:?*)
    context=${cluster#context:}
    beside() { "$@"; }
    kube() { kubectl --context "$context" "$@"; }
    ;;
  *) die "CLUSTER=$cluster: write CLUSTER=local or CLUSTER=context:NAME (a context of your kubeconfig)" ;;
esac

# Whether this machine can carry the local cluster: Debian, as root.
local_cluster_possible() { [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ]; }

explain_clusters() {
  cat <<'TEXT'
The local cluster needs Debian and root. On another machine, name a cluster of yours:

  kind create cluster --name mcp
  make demo CLUSTER=context:kind-mcp
TEXT
}

# Names the foreign cluster before anything is created there.
announce() {
  [ "$cluster" != local ] || return 0
  say "cluster: context $context ($(kube config view -o "jsonpath={.clusters[?(@.name==\"$(kube config view -o "jsonpath={.contexts[?(@.name==\"$context\")].context.cluster}")\")].cluster.server}"))"
  echo "    will be created: namespace $system_namespace, the CRD mcpclusters.mcpcluster.dev, cluster roles of the operator${1:+, $1}"
}

install_operator() {
  say "installing the operator"
  local before
  before=$(kube -n "$system_namespace" get deployment mcp-operator --ignore-not-found -o name 2>/dev/null || true)
  tests/run/render-operator | kube apply --server-side --force-conflicts -f -
  kube wait --for=condition=Established crd/mcpclusters.mcpcluster.dev --timeout=60s
  # An image that was built anew under the same tag is not noticed otherwise.
  [ -z "$before" ] || kube -n "$system_namespace" rollout restart deployment/mcp-operator
  kube -n "$system_namespace" rollout status deployment/mcp-operator --timeout=180s
}
