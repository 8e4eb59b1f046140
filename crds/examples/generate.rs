//! Rewrites what is generated from the Rust types: `cargo run -p mcp-crds --example generate`.

use std::path::Path;

use mcp_crds::cluster;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::write(root.join("mcpclusters.yaml"), cluster::crd_yaml())?;
    std::fs::write(root.join("../docs/api.md"), cluster::reference())
}
