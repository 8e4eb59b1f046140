use super::*;

#[test]
fn quickstart_compiles() {
    let catalog: Catalog = serde_yaml::from_str(
        "tools:\n- name: greet\n  static: {content: [{text: hi}]}\n- name: weather\n  inputSchema: {type: object, properties: {city: {type: string}}}\n  http: {url: 'https://wttr.in/{city}?format=j1'}\n",
    )
    .unwrap();
    let compiled =
        compile(&CompileInput { cluster: "hello", catalog: Some(&catalog), config_maps: &BTreeMap::new(), server_version: "1" })
            .unwrap();
    assert_eq!(compiled.catalog.tools.len(), 2);
}
