use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::*;

const VARIABLES: [(&str, &str); 3] =
    [("ORDERS_HOST", "h.example.com"), ("ORDERS_TOKEN", "hunter2"), ("NODE_KEY", "hunter3")];

/// A machine: the operator's file in `conf`, pipelines in `pipelines`, and what is nobody's business in `private`.
fn machine() -> TempDir {
    let machine = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let file = machine.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("private/key.json", "{\"key\": \"hunter3\"}");
    write("private/token", "hunter3\n");
    write("secrets/token", "hunter2\n");
    write("conf/node.json", "{}");
    write("conf/ca.pem", "");
    write("pipelines/schema.json", "{\"type\": \"object\"}");
    write("pipelines/deep/token", "hunter2\n");
    std::os::unix::fs::symlink("../private/key.json", machine.path().join("pipelines/link.json")).unwrap();
    std::os::unix::fs::symlink("../private", machine.path().join("pipelines/door")).unwrap();
    std::os::unix::fs::symlink("../private/none.jsonl", machine.path().join("pipelines/nowhere.jsonl")).unwrap();
    std::os::unix::fs::symlink("deep", machine.path().join("pipelines/inside")).unwrap();
    machine
}

/// Whoever may not name a secret may name the profile that has it: it goes where the operator says.
#[test]
fn a_profile_of_nats_lends_its_credentials_to_a_pipeline_that_may_not_name_them() {
    let machine = machine();
    let profile = "brokers: { main: { nats: { servers: nats://n, auth: { nkey: ../private/token } } } }\n";
    let node = node(&machine, profile);
    let pipeline =
        |keys: &str| format!("pipeline: p\nsource: {{ nats: {{ {keys}, subjects: a }} }}\nsink: {{ stdio: }}\n");
    let good = load(&machine, &node, &pipeline("profile: main")).unwrap();
    assert!(node.check(&good).is_empty());
    let resolved = node.resolve_nats(nats_connections(&good).next().unwrap()).unwrap();
    assert!(matches!(resolved.auth, Some(NatsAuth::Nkey(_))), "{resolved:?}");
    for (keys, code) in [
        ("servers: nats://mine, auth: { nkey: ../private/token }", "file.not_listed"),
        ("servers: nats://mine, profile: main", "key.conflict"),
        ("profile: main, tls: { ca: schema.json }", "key.conflict"),
    ] {
        let found = load(&machine, &node, &pipeline(keys)).unwrap_err();
        assert_eq!(found.iter().map(|error| error.code.as_str()).collect::<Vec<_>>(), [code], "{keys}");
    }
}

fn node(machine: &TempDir, text: &str) -> Node {
    let file = machine.path().join("conf/portcullis.yaml");
    fs::write(&file, text).unwrap();
    read_node(Some(&file), &VARIABLES, &Flags::new()).unwrap_or_else(|found| panic!("{found}"))
}

fn load(machine: &TempDir, node: &Node, text: &str) -> Result<Pipeline, Diagnostics> {
    node.load_pipeline(&machine.path().join("pipelines/p.yaml"), text.as_bytes(), &VARIABLES)
}

/// A pipeline with these keys of its one plugin.
fn with(plugin: &str) -> String {
    format!(
        "pipeline: p\nsource: {{ stdio: }}\nsink: {{ stdio: }}\nplugins:\n  - name: x\n    component: x.wasm\n    {plugin}\n"
    )
}

fn rule(keys: &str) -> String {
    with(&format!("grants: {{ egress: [{{ allow: \"https://a.example.com\", {keys} }}] }}"))
}

/// Every way in which a pipeline file names something of the machine, with where the refusal points.
fn grabs(machine: &TempDir) -> Vec<(String, &'static str, usize)> {
    let private = machine.path().join("private").display().to_string();
    let kafka = |keys: &str| {
        format!("pipeline: p\nsource: {{ kafka: {{ brokers: b, topics: t, {keys} }} }}\nsink: {{ stdio: }}\n")
    };
    let nats = |keys: &str| {
        format!("pipeline: p\nsource: {{ nats: {{ servers: nats://n, subjects: a, {keys} }} }}\nsink: {{ stdio: }}\n")
    };
    vec![
        (nats("auth: { credentials: deep/token }"), "file.not_listed", 2),
        (nats("auth: { nkey: ../private/token }"), "file.not_listed", 2),
        (nats("auth: { token: { env: NODE_KEY } }"), "env.not_listed", 2),
        (nats("tls: { ca: ../private/token }"), "file.not_listed", 2),
        (nats("tls: { cert: schema.json, key: deep/token }"), "file.not_listed", 2),
        (kafka("tls: { cert: schema.json, key: deep/token }"), "file.not_listed", 2),
        (rule("client_cert: { cert: schema.json, key: deep/token }"), "file.not_listed", 7),
        (with("config: { url: \"https://x/${NODE_KEY}\" }"), "env.not_listed", 7),
        (with("config: { url: \"${NODE_KEY:-x}\" }"), "env.not_listed", 7),
        (rule("secrets: { a: { env: NODE_KEY } }"), "env.not_listed", 7),
        (rule(&format!("secrets: {{ a: {{ file: {private}/token }} }}")), "file.not_listed", 7),
        (rule("secrets: { a: { file: deep/token } }"), "file.not_listed", 7),
        (rule(&format!("ca: {private}/token")), "file.not_listed", 7),
        (rule("client_cert: { cert: schema.json, key: ../private/token }"), "file.not_listed", 7),
        (with("config: { $file: ../private/key.json }"), "file.not_listed", 7),
        (with("config: { $file: link.json }"), "file.not_listed", 7),
        (with("config: { $file: door/key.json }"), "file.not_listed", 7),
        (with("config: { $file: ../conf/portcullis.yaml }"), "file.not_listed", 7),
        (with("").replace("x.wasm", "../private/x.wasm"), "file.not_listed", 6),
        (kafka("sasl: { mechanism: PLAIN, username: u, password: { env: NODE_KEY } }"), "env.not_listed", 2),
        (kafka("sasl: { mechanism: PLAIN, username: u, password: { file: deep/token } }"), "file.not_listed", 2),
        (kafka("librdkafka: { client.rack: { env: NODE_KEY } }"), "env.not_listed", 2),
        (kafka("tls: { ca: ../private/token }"), "file.not_listed", 2),
        (kafka("tls: { cert: schema.json, key: ../private/token }"), "file.not_listed", 2),
        (with("").replace("source: { stdio: }", "source: { file: { path: ../private/token } }"), "file.not_listed", 2),
        (
            with("").replace("sink: { stdio: }", "sink: { file: { path: ../conf/portcullis.yaml } }"),
            "file.not_listed",
            3,
        ),
        (with("").replace("sink: { stdio: }", "sink: { file: { path: nowhere.jsonl } }"), "file.not_listed", 3),
        (with("").replace("sink: { stdio: }", "sink: { file: { path: none/../../private/x } }"), "file.not_listed", 3),
    ]
}

#[test]
fn beside_a_file_of_the_node_a_pipeline_names_nothing_of_the_machine() {
    let machine = machine();
    let node = node(&machine, "");
    for (text, code, line) in grabs(&machine) {
        let found = load(&machine, &node, &text).expect_err(&text);
        let places: Vec<_> = found.iter().map(|error| (error.code.as_str(), error.at.line)).collect();
        assert_eq!(places, [(code, line)], "{text}\n{found}");
        assert!(found.iter().all(|error| error.at.col > 0 && error.help.is_some()), "{found}");
        assert!(!found.render(false).contains("hunter"), "{found}");
    }
    let found = load(&machine, &node, &with("config: { url: \"${NODE_KEY}\" }")).unwrap_err().render(false);
    assert!(
        found.contains("`NODE_KEY`") && found.contains("portcullis.yaml: `pipelines_may_name: { env: [NODE_KEY] }`"),
        "{found}"
    );
}

#[test]
fn without_an_operator_everything_may_be_named() {
    let machine = machine();
    let desk = load_node(None, &NoEnvironment, &Flags::new()).unwrap();
    for (text, code, _) in grabs(&machine) {
        let refused = load(&machine, &desk, &text).err().map(|found| found.render(false)).unwrap_or_default();
        assert!(!refused.contains(code), "{text}\n{refused}");
    }
    let named = load_node(None, &[("PORTCULLIS_PIPELINES_MAY_NAME__ENV", "[A]")], &Flags::new()).unwrap();
    assert!(
        load(&machine, &named, &rule("secrets: { a: { env: NODE_KEY } }")).is_err(),
        "a list without a file is a list"
    );
}

#[test]
fn what_lies_beneath_the_folder_of_the_file_may_be_named() {
    let machine = machine();
    let node = node(&machine, "");
    for text in [
        with("config: { $file: schema.json }"),
        with("config: { $file: deep/../schema.json }"),
        with("config: { price: \"$$ 5\" }"),
        with("").replace("x.wasm", "none/x.wasm"),
        with("").replace("x.wasm", "inside/x.wasm"),
        rule("ca: schema.json"),
        with("").replace("sink: { stdio: }", "sink: { file: { path: out.jsonl } }"),
        with("").replace("source: { stdio: }", "source: { file: { path: schema.json, position: deep/position } }"),
    ] {
        load(&machine, &node, &text).unwrap_or_else(|found| panic!("{text}\n{found}"));
    }
}

#[test]
fn what_the_operator_lists_may_be_named_and_nothing_beside_it() {
    let machine = machine();
    let node = node(
        &machine,
        "pipelines_may_name: { env: [ORDERS_*], files: [../secrets/**, ../private/key.json, ../conf/**] }\n",
    );
    for text in [
        with("config: { url: \"https://${ORDERS_HOST}/${ORDERS_NONE:-x}\" }"),
        rule("secrets: { a: { env: ORDERS_TOKEN }, b: { file: ../secrets/token } }"),
        with("config: { $file: ../private/key.json }"),
        with("config: { $file: link.json }"),
        with("config: { $file: ../conf/node.json }"),
    ] {
        load(&machine, &node, &text).unwrap_or_else(|found| panic!("{text}\n{found}"));
    }
    for text in [
        with("config: { url: \"${NODE_KEY}${ORDERS_HOST}\" }"),
        rule("secrets: { a: { file: ../private/token } }"),
        rule("ca: ../secrets-of-others"),
        with("config: { $file: ../conf/portcullis.yaml }"),
    ] {
        assert_eq!(load(&machine, &node, &text).expect_err(&text).len(), 1, "{text}");
    }
}

#[test]
fn files_of_the_node_itself_are_not_a_pipelines_also_where_they_lie_beside_it() {
    let machine = machine();
    let file = machine.path().join("pipelines/portcullis.yaml");
    for name in ["key.pem", "cert.pem", "ca.pem", "password.yaml"] {
        fs::write(machine.path().join("pipelines").join(name), "hunter3\n").unwrap();
    }
    let text = "brokers: { main: { kafka: { brokers: b, tls: { ca: ca.pem, cert: cert.pem, key: key.pem }, sasl: { mechanism: PLAIN, username: u, password: { file: password.yaml } } } } }\ncache: { dir: cache }\naudit: { file: audit.jsonl }\n";
    let read = |more: &str| {
        fs::write(&file, format!("{text}{more}")).unwrap();
        read_node(Some(&file), &NoEnvironment, &Flags::new()).unwrap_or_else(|found| panic!("{found}"))
    };
    let node = read("");
    for text in [
        with("config: { $file: password.yaml }"),
        with("config: { $file: portcullis.yaml }"),
        rule("client_cert: { cert: schema.json, key: key.pem }"),
        with("").replace("sink: { stdio: }", "sink: { file: { path: audit.jsonl } }"),
        with("").replace("sink: { stdio: }", "sink: { file: { path: portcullis.yaml, format: lines } }"),
        with("").replace("source: { stdio: }", "source: { file: { path: cache/key, format: lines } }"),
    ] {
        let found = load(&machine, &node, &text).expect_err(&text);
        assert!(found.render(false).contains("error[file.not_listed]"), "{found}");
    }
    let node = read("pipelines_may_name: { files: [ca.pem] }\n");
    assert!(load(&machine, &node, &rule("ca: ca.pem")).is_ok(), "what an operator lists he means");
}

#[test]
fn a_variable_that_the_process_was_given_for_its_pipelines_needs_no_list() {
    struct Given;
    impl Environment for Given {
        fn var(&self, name: &str) -> Option<String> {
            Some(format!("http://{}", name.to_lowercase()))
        }
        fn with_prefix(&self, _prefix: &str) -> Vec<(String, String)> {
            Vec::new()
        }
        fn is_given(&self, name: &str) -> bool {
            name == "SERVER"
        }
    }
    let machine = machine();
    let node = node(&machine, "");
    let file = machine.path().join("pipelines/p.yaml");
    let load = |text: &str| node.load_pipeline(&file, text.as_bytes(), &Given);
    assert!(load(&with("config: { url: \"${SERVER}\" }")).is_ok());
    assert!(load(&with("config: { url: \"${OTHER}\" }")).is_err());
}

#[test]
fn a_list_that_means_nothing_is_refused() {
    let load =
        |text: &str| load_node(Some((Path::new("portcullis.yaml"), text.as_bytes())), &NoEnvironment, &Flags::new());
    for (list, code) in [
        ("{ env: [\"A*B\"] }", "value.invalid"),
        ("{ env: [A-B] }", "value.invalid"),
        ("{ env: [\"1A\"] }", "value.invalid"),
        ("{ files: [\"a/*.pem\"] }", "value.invalid"),
        ("{ files: [\"**/a\"] }", "value.invalid"),
        ("{ variables: [A] }", "key.unknown"),
        ("[A]", "type.wrong"),
    ] {
        let found = load(&format!("pipelines_may_name: {list}\n")).expect_err(list);
        assert_eq!(found.iter().map(|error| error.code.as_str()).collect::<Vec<_>>(), [code], "{list}\n{found}");
    }
    let node = load("pipelines_may_name: { env: [], files: \"conf/**\" }\n").unwrap();
    let may_name = node.pipelines_may_name.unwrap();
    assert_eq!(
        (may_name.env.len(), may_name.files[0].path.as_path(), may_name.files[0].beneath),
        (0, Path::new("conf"), true)
    );
}
