//! Rewrites what is generated from the Rust types: `cargo run -p mcp-crds --example generate`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::write(root.join("mcpclusters.yaml"), mcp_crds::cluster::crd_yaml())
}
