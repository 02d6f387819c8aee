use std::path::{Path, PathBuf};

use portcullis_config::{Flags, NoEnvironment, load_node, load_pipeline};

use super::*;

fn found(files: &[(&str, String)]) -> Found {
    let load = |(name, text): &(&str, String)| {
        let name = PathBuf::from(name);
        load_pipeline(&name, text.as_bytes(), &NoEnvironment).unwrap_or_else(|found| panic!("{text}{found}"))
    };
    let pipelines: Vec<Pipeline> = files.iter().map(load).collect();
    let node = "brokers: { main: { kafka: { brokers: 'k1:9092, k2' } } }\n";
    let node = load_node(Some((Path::new("n.yaml"), node.as_bytes())), &NoEnvironment, &Flags::new()).unwrap();
    find(&node, &pipelines, false)
}

/// What one pipeline is refused for, and what it is warned of.
fn one(source: &str, sink: &str, more: &str) -> (usize, usize) {
    let text = format!("pipeline: p\nsource: {{ {source} }}\nsink: {{ {sink} }}\n{more}\n");
    let found = found(&[("p.yaml", text)]);
    (found.wrong.len(), found.warnings.len())
}

fn pipeline(name: &str, source: &str, sink: &str, more: &str) -> String {
    format!("pipeline: {name}\nsource: {{ {source} }}\nsink: {{ {sink} }}\n{more}\n")
}

#[test]
fn a_topic_to_itself_is_refused_however_its_cluster_is_spelled() {
    for (read, written) in [
        ("brokers: 'localhost:9092'", "brokers: '127.0.0.1:9092'"),
        ("brokers: localhost", "brokers: '[::1]:9092'"),
        ("brokers: 'a:1,b:2'", "brokers: 'b:2, a:1'"),
        ("brokers: 'a:1,b:2'", "brokers: 'c:3,B:2'"),
        ("profile: main", "brokers: 'k2:9092'"),
        ("brokers: k1", "profile: main"),
    ] {
        let source = format!("kafka: {{ {read}, topics: [other, orders] }}");
        let sink = format!("kafka: {{ {written}, topic: orders }}");
        assert_eq!(one(&source, &sink, ""), (1, 0), "{read} {written}");
        let letters = format!("dead_letter: {{ {sink} }}");
        assert_eq!(one(&source, "stdio:", &letters), (1, 0), "a dead letter: {read} {written}");
        let other = sink.replace("topic: orders", "topic: clean");
        assert_eq!(one(&source, &other, ""), (0, 0), "{other}");
    }
    let mirror = |written: &str| {
        one("kafka: { brokers: 'a:9092', topics: t }", &format!("kafka: {{ brokers: '{written}', topic: t }}"), "")
    };
    assert_eq!(mirror("b:9092"), (0, 0), "a mirror");
    assert_eq!(mirror("a:9093"), (0, 1), "one host: a mirror, or two listeners of one broker");
}

#[test]
fn a_template_that_gives_what_the_pipeline_reads_is_refused_and_one_that_may_is_warned_of() {
    let with = |topics: &str, topic: &str, allow: &str| {
        one(
            &format!("kafka: {{ brokers: a, topics: {topics} }}"),
            &format!("kafka: {{ brokers: a, topic: '{topic}', allow: ['{allow}'] }}"),
            "",
        )
    };
    assert_eq!(with("orders", "{{channel}}", "*"), (1, 0));
    assert_eq!(with("[x, out.x]", "out.{{channel}}", "out.*"), (1, 0), "what comes from `x` goes to `out.x`");
    assert_eq!(with("orders", "{{key}}", "*"), (0, 1));
    assert_eq!(with("orders", "{{header.to}}", "o*"), (0, 1));
    for (topics, topic, allow) in [
        ("orders", "{{channel}}", "clean.*"),
        ("orders", "clean.{{channel}}", "clean.*"),
        ("orders", "{{key}}", "*.out"),
        ("orders", "to.{{key}}", "*.*"),
    ] {
        assert_eq!(with(topics, topic, allow), (0, 0), "{topics} {topic} {allow}");
    }
    let both = "[{ kafka: { brokers: 'a:9093', topics: orders } }, { kafka: { brokers: a, topics: orders } }]";
    let text = format!("pipeline: p\nsource: {both}\nsink: {{ kafka: {{ brokers: a, topic: orders }} }}\n");
    let both = found(&[("p.yaml", text)]);
    assert_eq!((both.wrong.len(), both.warnings.len()), (1, 0), "what is certain is not hidden by what may be");
    let nats = |subjects: &str, subject: &str, allow: &str| {
        one(
            &format!("nats: {{ servers: nats://a, subjects: '{subjects}' }}"),
            &format!("nats: {{ servers: nats://a, subject: '{subject}', allow: ['{allow}'] }}"),
            "",
        )
    };
    assert_eq!(nats("x.>", "{{channel}}", "x.*"), (1, 0));
    assert_eq!(nats("x.>", "x.{{key}}", "x.*"), (0, 1));
    assert_eq!(nats("x.>", "y.{{key}}", "y.*"), (0, 0));
}

#[test]
fn two_pipelines_that_send_to_each_other_are_refused_with_every_place_and_a_redrive_is_warned_of() {
    let kafka = |from: &str, to: &str| {
        (format!("kafka: {{ brokers: a, topics: {from} }}"), format!("kafka: {{ brokers: 'A:9092', topic: {to} }}"))
    };
    let ((from_x, to_y), (from_y, to_x)) = (kafka("x", "y"), kafka("y", "x"));
    let round = found(&[("a.yaml", pipeline("a", &from_x, &to_y, "")), ("b.yaml", pipeline("b", &from_y, &to_x, ""))]);
    let [said] = &round.wrong[..] else { panic!("{round:?}") };
    for piece in ["`y` (a.yaml:3:", "b.yaml:2:", "`x` (b.yaml:3:", "a.yaml:2:"] {
        assert!(said.message.contains(piece), "{piece}: {}", said.message);
    }
    assert_eq!((said.at.file(), said.at.line, round.warnings.len()), ("a.yaml", 3, 0));

    let (from_y, to_z) = kafka("y", "z");
    let (from_z, to_x) = kafka("z", "x");
    let three = found(&[
        ("a.yaml", pipeline("a", &from_x, &to_y, "")),
        ("b.yaml", pipeline("b", &from_y, &to_z, "")),
        ("c.yaml", pipeline("c", &from_z, &to_x, "")),
    ]);
    assert_eq!((three.wrong.len(), three.warnings.len()), (1, 0));

    let letters = "dead_letter: { kafka: { topic: dead } }";
    let (from_dead, back) = kafka("dead", "x");
    let redrive =
        found(&[("a.yaml", pipeline("a", &from_x, &to_y, letters)), ("r.yaml", pipeline("r", &from_dead, &back, ""))]);
    assert_eq!(
        (redrive.wrong.len(), redrive.warnings.len()),
        (0, 1),
        "whoever repairs a message and sends it again means that"
    );

    let chain = found(&[("a.yaml", pipeline("a", &from_x, &to_y, "")), ("b.yaml", pipeline("b", &from_y, &to_z, ""))]);
    assert_eq!((chain.wrong.len(), chain.warnings.len()), (0, 0));
}

#[test]
fn a_file_to_itself_is_refused_also_by_another_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("in"), "").unwrap();
    std::fs::create_dir(path("sub")).unwrap();
    std::os::unix::fs::symlink("in", path("symlink")).unwrap();
    std::fs::hard_link(path("in"), path("hard")).unwrap();
    let with = |from: &str, to: &str| {
        one(&format!("file: {{ path: '{}' }}", path(from)), &format!("file: {{ path: '{}' }}", path(to)), "")
    };
    for (from, to) in [
        ("in", "in"),
        ("in", "sub/../in"),
        ("in", "symlink"),
        ("in", "hard"),
        ("later", "./later"),
        ("later", "sub/../later"),
    ] {
        assert_eq!(with(from, to), (1, 0), "{from} {to}");
    }
    assert_eq!(with("in", "out"), (0, 0));
}
