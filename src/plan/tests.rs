use portcullis_config::NoEnvironment;

use super::*;

const PIPELINE: &str =
    "pipeline: p\nsource: { file: { path: in.jsonl } }\nsink: { file: { path: out.jsonl } }\nplugins: []\n";

fn options(node_file: Option<&Path>) -> Options<'_> {
    Options {
        environment: &NoEnvironment,
        node_file,
        flags: Flags::new(),
        instead: None,
        no_cache: true,
        lock: LockUse::Ignore,
        consent: Vec::new(),
    }
}

/// The digest of a plan whose files are exchanged between reading and resolving.
fn digest(folder: &Path, exchange: impl FnOnce()) -> String {
    let options = options(None);
    let typed = read(&[folder.join("p.yaml")], &options).unwrap_or_else(|refusal| panic!("{}", refusal.diagnostics));
    exchange();
    let plan = typed.resolve(&options).unwrap_or_else(|refusal| panic!("{}", refusal.diagnostics));
    plan.digest()
}

#[test]
fn the_digest_is_of_the_bytes_that_were_parsed_and_not_of_what_lies_there_later() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("p.yaml", PIPELINE);
    write("portcullis.yaml", "log: { level: info }\n");
    let parsed = digest(folder.path(), || {});
    for (name, text) in [("p.yaml", PIPELINE), ("portcullis.yaml", "log: { level: info }\n")] {
        let other = format!("{text}# another\n");
        assert_eq!(digest(folder.path(), || write(name, &other)), parsed, "{name}");
        assert_ne!(digest(folder.path(), || {}), parsed, "{name}");
        write(name, text);
    }
}

#[test]
fn a_file_of_the_node_that_cannot_be_read_is_not_taken_for_none() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), PIPELINE).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("portcullis.yaml")).unwrap();
    let refused = read(&[folder.path().join("p.yaml")], &options(None)).err().unwrap();
    assert_eq!(refused.diagnostics.iter().next().unwrap().code.as_str(), "file.unreadable");
}
