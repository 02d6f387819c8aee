use portcullis_config::NoEnvironment;

use super::super::locked::LockedManifest;
use super::*;

fn plugin(name: &str, digest: &str) -> LockedPlugin {
    LockedPlugin {
        name: name.to_owned(),
        component: format!("{name}.wasm"),
        digest: digest.to_owned(),
        manifest: Some(LockedManifest {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            digest: "sha256:m".to_owned(),
        }),
        world: "portcullis:plugin/validator@0.1.0".to_owned(),
        imports: vec!["portcullis:plugin/messages@0.1.0.[method]message.key".to_owned()],
        grants: [("clock".to_owned(), "coarse".to_owned())].into(),
        budgets: [("memory".to_owned(), "64MiB".to_owned())].into(),
        policy: None,
        config: None,
        files: [].into(),
    }
}

fn locked(file: &str, plugins: Vec<LockedPlugin>) -> LockedPipeline {
    LockedPipeline { file: file.to_owned(), tenant: None, plugins }
}

const PIPELINE: &str = r"pipeline: NAME
source: { file: { path: in.jsonl, format: jsonl } }
plugins:
  - name: one
    component: one.wasm
    grants: { clock: coarse }
    limits: { memory: 64MiB }
    config: { a: 1 }
sink: { file: { path: out.jsonl, format: jsonl } }
";

fn pipeline(folder: &Path, name: &str) -> Pipeline {
    let file = folder.join(format!("{name}.yaml"));
    fs::write(&file, PIPELINE.replace("NAME", name)).unwrap();
    portcullis_config::read_pipeline(&file, &NoEnvironment).unwrap()
}

fn entry(pipeline: &Pipeline, locked: LockedPipeline) -> (PathBuf, String, LockedPipeline) {
    (pipeline.file.clone(), pipeline.name.value.clone(), locked)
}

fn locks(pipeline: &Pipeline, used: LockUse) -> (Locks, Diagnostics) {
    let mut wrong = Diagnostics::new();
    let locks = Locks::read(std::slice::from_ref(pipeline), used, &mut wrong);
    (locks, wrong)
}

#[test]
fn what_was_written_is_read_again_and_written_twice_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let one = pipeline(folder.path(), "one");
    let here = || [entry(&one, locked("one.yaml", vec![plugin("one", "sha256:a")]))];
    let path = folder.path().join(LOCK_FILE);
    assert_eq!(write(&here()).unwrap(), [(path.clone(), true)]);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(write(&here()).unwrap(), [(path.clone(), false)]);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let (locks, wrong) = locks(&one, LockUse::Require);
    assert!(wrong.is_empty());
    assert_eq!(locks.plugin(&one, "one"), Some(&plugin("one", "sha256:a")));
    assert_eq!(locks.drift(&one, &here()[0].2), []);
}

#[test]
fn a_lock_keeps_the_pipelines_of_other_files_and_forgets_those_whose_file_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (pipeline(folder.path(), "one"), pipeline(folder.path(), "two"));
    write(&[entry(&one, locked("one.yaml", vec![plugin("one", "sha256:a")]))]).unwrap();
    write(&[entry(&two, locked("two.yaml", vec![plugin("one", "sha256:b")]))]).unwrap();
    assert!(locks(&one, LockUse::Compare).0.plugin(&one, "one").is_some());
    fs::remove_file(&one.file).unwrap();
    write(&[entry(&two, locked("two.yaml", vec![plugin("one", "sha256:b")]))]).unwrap();
    assert!(locks(&one, LockUse::Compare).0.plugin(&one, "one").is_none());
}

#[test]
fn every_difference_is_named_with_both_sides_and_the_line_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let one = pipeline(folder.path(), "one");
    write(&[entry(&one, locked("one.yaml", vec![plugin("one", "sha256:a")]))]).unwrap();
    let locks = locks(&one, LockUse::Compare).0;
    let drift = |change: &dyn Fn(&mut LockedPlugin)| {
        let mut changed = plugin("one", "sha256:a");
        change(&mut changed);
        let drifts = locks.drift(&one, &locked("one.yaml", vec![changed]));
        assert_eq!(drifts.len(), 1, "{drifts:?}");
        let limits = &one.plugins[0].limits;
        (drifts[0].text.clone(), super::super::locked::place(&one, &drifts[0], Some(limits)).line)
    };
    assert_eq!(drift(&|p| p.digest = "sha256:b".into()), ("`digest` was sha256:a, now it is sha256:b".into(), 5));
    assert_eq!(
        drift(&|p| drop(p.grants.insert("clock".into(), "precise".into()))),
        ("`grants.clock` was coarse, now it is precise".into(), 6)
    );
    assert_eq!(
        drift(&|p| drop(p.grants.insert("random".into(), "true".into()))),
        ("`grants.random` was none, now it is true".into(), 4)
    );
    assert_eq!(
        drift(&|p| drop(p.budgets.insert("memory".into(), "1GiB".into()))),
        ("`limits.memory` was 64MiB, now it is 1GiB".into(), 7)
    );
    assert_eq!(
        drift(&|p| p.config = Some("sha256:c".into())),
        ("`config` was none, now it is sha256:c".into(), 8),
        "also of what is locked by an older program, which has none"
    );
    assert_eq!(
        drift(&|p| drop(p.files.insert("egress[0].ca".into(), "sha256:f".into()))).0,
        "`grants.egress[0].ca` was none, now it is sha256:f"
    );
    assert_eq!(drift(&|p| p.world = "w".into()).1, 5);
    assert_eq!(drift(&|p| p.policy = Some("sha256:p".into())).0, "`policy` was none, now it is sha256:p");
    assert!(drift(&|p| p.manifest = None).0.starts_with("`manifest` was one 1.0.0 sha256:m"));
    assert!(drift(&|p| p.name = "other".into()).0.starts_with("`plugins` was one, now it is other"));
    let two = pipeline(folder.path(), "two");
    assert_eq!(locks.drift(&two, &locked("two.yaml", vec![]))[0].text, "the pipeline is not in it");
}

#[test]
fn other_bytes_of_a_component_are_refused_until_the_operator_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let one = pipeline(folder.path(), "one");
    write(&[entry(&one, locked("one.yaml", vec![plugin("one", "sha256:a")]))]).unwrap();
    let refuses = |used, digest: &str| locks(&one, used).0.refuses_digest(&one, &one.plugins[0], digest);
    for used in [LockUse::Compare, LockUse::Require, LockUse::Bytes] {
        assert_eq!(refuses(used, "sha256:a"), None);
        assert_eq!(refuses(used, "sha256:b").as_deref(), Some("the digest was sha256:a, now it is sha256:b"));
    }
    assert_eq!(refuses(LockUse::Ignore, "sha256:b"), None);
    let mut pinned = one.plugins[0].clone();
    pinned.digest = Some(portcullis_config::Located::new("sha256:b".to_owned(), pinned.at.clone()));
    assert_eq!(locks(&one, LockUse::Bytes).0.refuses_digest(&one, &pinned, "sha256:b"), None);
}

#[test]
fn a_lock_that_is_missing_is_an_error_only_where_it_is_required_and_one_that_is_broken_always() {
    let folder = tempfile::tempdir().unwrap();
    let one = pipeline(folder.path(), "one");
    assert!(locks(&one, LockUse::Compare).1.is_empty());
    assert_eq!(locks(&one, LockUse::Require).1.iter().next().unwrap().code.as_str(), "lock.missing");
    for text in ["", "{}", r#"{"lock":2,"pipelines":{}}"#, r#"{"lock":1,"pipelines":{},"more":1}"#] {
        fs::write(folder.path().join(LOCK_FILE), text).unwrap();
        assert_eq!(locks(&one, LockUse::Compare).1.iter().next().unwrap().code.as_str(), "lock.invalid", "{text}");
        assert!(locks(&one, LockUse::Ignore).1.is_empty());
    }
}

#[test]
fn a_lock_that_bounds_a_network_that_a_plugin_has_not_is_no_drift_and_one_of_a_network_is() {
    let bounded = |count: &str| {
        let mut plugin = plugin("one", "sha256:a");
        plugin.budgets.insert("connections".to_owned(), count.to_owned());
        plugin
    };
    let found = locked("p.yaml", vec![plugin("one", "sha256:a")]);
    assert_eq!(locked("p.yaml", vec![bounded("8")]).drift(&found), [], "as earlier versions wrote it");
    let with_network = |mut plugin: LockedPlugin| {
        plugin.grants.insert("egress_mode".to_owned(), "enforce".to_owned());
        locked("p.yaml", vec![plugin])
    };
    let drift = with_network(bounded("8")).drift(&with_network(bounded("9")));
    assert_eq!(drift.iter().map(|drift| drift.what.as_str()).collect::<Vec<_>>(), ["limits.connections"]);
}
