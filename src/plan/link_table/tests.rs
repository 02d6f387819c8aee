use portcullis_config::{NoEnvironment, Node, Pipeline};

use super::*;
use crate::plugin::{Claimed, Kind, Manifest};

fn pipeline(grants: &str) -> Pipeline {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    let text = format!(
        "pipeline: tested\ntenant: acme\nsource: {{ file: {{ path: in.jsonl, format: jsonl }} }}\nplugins:\n  - name: p\n    component: p.wasm\n    {grants}\nsink: {{ file: {{ path: out.jsonl, format: jsonl }} }}\n"
    );
    std::fs::write(&file, text).unwrap();
    portcullis_config::read_pipeline(&file, &NoEnvironment).unwrap()
}

fn node(text: &str) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.yaml");
    std::fs::write(&file, text).unwrap();
    portcullis_config::read_node(Some(&file), &NoEnvironment, &portcullis_config::Flags::new()).unwrap()
}

fn import(interface: &str, takes: Takes) -> Imported {
    Imported { interface: interface.to_owned(), functions: vec!["now".to_owned()], takes }
}

fn clock() -> Imported {
    import("wasi:clocks/wall-clock@0.2.12", Takes::Grant(Wish::Clock))
}

fn sockets() -> Imported {
    import("wasi:sockets/tcp@0.2.12", Takes::Grant(Wish::Egress))
}

fn ask(capability: Wish, optional: bool, egress: &[&str]) -> Ask {
    let egress = egress.iter().map(|text| (*text).to_owned()).collect();
    Ask { capability, reason: "because".to_owned(), optional, egress }
}

fn examined(imports: Vec<Imported>, asks: Option<Vec<Ask>>) -> Examined {
    let manifest = |asks| Manifest {
        name: "p".to_owned(),
        version: "1.0.0".to_owned(),
        world: Kind::Enricher,
        asks,
        config_schema: None,
    };
    Examined {
        digest: "sha256:0".to_owned(),
        kind: Kind::Enricher,
        world: "portcullis:plugin/enricher@0.1.0".to_owned(),
        imports,
        exports: Vec::new(),
        parts: Vec::new(),
        claimed: asks.map(|asks| Claimed { manifest: manifest(asks), digest: "sha256:1".to_owned(), file: None }),
    }
}

struct Found {
    verdicts: Vec<(Option<Wish>, Verdict)>,
    refusals: Vec<String>,
    places: Vec<usize>,
    warnings: Vec<String>,
    reasons: Vec<String>,
}

fn judged(examined: &Examined, grants: &str, node_text: &str, production: bool) -> Found {
    let (pipeline, node) = (pipeline(grants), node(node_text));
    let plugin = &pipeline.plugins[0];
    let tenant = node.tenants.get_key_value("acme");
    let judgement = judge(&Case {
        examined,
        entry: &plugin.component.at,
        grants: &plugin.grants,
        named: &plugin.config.as_ref().map(|config| needed::named(&config.to_typed_json())).unwrap_or_default(),
        tenant: tenant.map(|(name, tenant)| (name.as_str(), &tenant.ceilings)),
        node: &node.ceilings,
        production,
    });
    Found {
        verdicts: judgement.lines.iter().map(|line| (line.capability, line.verdict)).collect(),
        reasons: judgement.lines.iter().map(|line| line.reason.clone()).collect(),
        refusals: judgement.refusals.iter().map(|(_, error)| error.to_string()).collect(),
        places: judgement.refusals.iter().map(|(at, _)| at.line).collect(),
        warnings: judgement.warnings.into_iter().map(|(_, warning)| warning).collect(),
    }
}

fn of(examined: &Examined, grants: &str) -> Found {
    judged(examined, grants, "mode: development\n", false)
}

#[test]
fn an_import_that_was_asked_for_and_granted_is_linked_with_its_reason() {
    let found = of(&examined(vec![clock()], Some(vec![ask(Wish::Clock, false, &[])])), "grants: { clock: coarse }");
    assert_eq!(found.verdicts, [(Some(Wish::Clock), Verdict::Linked)]);
    assert_eq!((found.reasons[0].as_str(), found.refusals.len(), found.warnings.len()), ("\"because\"", 0, 0));
}

#[test]
fn an_import_outside_the_manifest_is_refused_also_where_it_was_granted() {
    for grants in ["grants: { clock: coarse }", "grants: {}"] {
        let found = of(&examined(vec![clock()], Some(vec![])), grants);
        assert_eq!(found.verdicts, [(Some(Wish::Clock), Verdict::Refused)]);
        assert!(found.refusals[0].contains("its manifest does not ask for `clock`"), "{:?}", found.refusals);
        assert_eq!(found.refusals.len(), 1);
    }
}

#[test]
fn what_is_missing_is_suggested_all_at_once_with_what_is_there() {
    let asks = vec![
        ask(Wish::Clock, false, &[]),
        ask(Wish::Random, false, &[]),
        ask(Wish::Egress, false, &["https://a.example.com"]),
    ];
    let found = of(&examined(vec![clock(), sockets()], Some(asks)), "grants: { log: warn }");
    let yaml = "grants: { log: warn, clock: coarse, random: true, egress: [{ allow: \"https://a.example.com\" }] }";
    assert!(found.refusals[0].contains("wall-clock@0.2.12 and wasi:sockets/tcp@0.2.12"), "{:?}", found.refusals);
    assert!(found.refusals[0].contains(yaml), "{:?}", found.refusals);
    assert!(found.refusals[1].contains("asks for `random`"), "{:?}", found.refusals);
    assert_eq!(found.refusals.len(), 2);
}

#[test]
fn the_grant_that_is_suggested_is_enough() {
    let asks = vec![ask(Wish::Clock, false, &[]), ask(Wish::Egress, false, &["https://a.example.com"])];
    let plugin = examined(vec![clock(), sockets()], Some(asks));
    let refused = of(&plugin, "grants: {}");
    let yaml = refused.refusals[0].split('`').nth(1).unwrap();
    let found = of(&plugin, yaml);
    assert_eq!(found.refusals, Vec::<String>::new());
    assert!(found.verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Linked), "{:?}", found.verdicts);
}

#[test]
fn what_is_optional_may_be_missing() {
    let asks = vec![
        ask(Wish::Clock, true, &[]),
        ask(Wish::Random, true, &[]),
        ask(Wish::Egress, true, &["https://a.example.com"]),
    ];
    let found = of(&examined(vec![clock(), sockets()], Some(asks)), "grants: { egress: [\"https://b.example.com\"] }");
    assert_eq!(found.refusals, Vec::<String>::new());
    assert!(found.reasons.iter().any(|reason| reason.contains("each call of it is refused")), "{:?}", found.reasons);
    assert!(
        found.reasons.iter().any(|reason| reason.contains("no grant covers https://a.example.com")),
        "{:?}",
        found.reasons
    );
}

#[test]
fn without_a_manifest_what_is_imported_is_asked_for_and_production_refuses_it() {
    let plugin = examined(vec![clock()], None);
    let found = of(&plugin, "grants: { clock: coarse }");
    assert_eq!((found.refusals.len(), found.warnings.len()), (0, 1));
    assert!(of(&plugin, "grants: {}").refusals[0].contains("which is not granted"));
    let found = judged(&plugin, "grants: { clock: coarse }", "mode: development\n", true);
    assert!(found.refusals[0].contains("no manifest"), "{:?}", found.refusals);
}

#[test]
fn a_grant_that_nobody_asked_for_is_warned_of() {
    let found = of(&examined(vec![], Some(vec![])), "grants: { random: true, log: info }");
    assert_eq!(found.verdicts, [(Some(Wish::Log), Verdict::Warned), (Some(Wish::Random), Verdict::Warned)]);
    assert!(found.warnings.iter().all(|warning| warning.starts_with("over-grant")), "{:?}", found.warnings);
    let asks = vec![ask(Wish::Egress, false, &["https://a.example.com"])];
    let more = "grants: { egress: [\"https://a.example.com\", \"https://b.example.com\"] }";
    let found = of(&examined(vec![sockets()], Some(asks)), more);
    assert_eq!(found.verdicts, [(Some(Wish::Egress), Verdict::Warned)]);
    assert!(found.warnings[0].contains("https://b.example.com"), "{:?}", found.warnings);
}

#[test]
fn a_destination_that_no_grant_covers_is_refused_and_a_part_of_one_is_enough() {
    let plugin = examined(vec![sockets()], Some(vec![ask(Wish::Egress, false, &["https://a.example.com"])]));
    let found = of(&plugin, "grants: { egress: [\"https://b.example.com\"] }");
    assert!(found.refusals[0].contains("asks for https://a.example.com"), "{:?}", found.refusals);
    let part = "grants: { egress: [{ allow: \"https://a.example.com\", methods: [GET], paths: [\"/v1/\"] }] }";
    assert_eq!(of(&plugin, part).refusals, Vec::<String>::new());
    let none = of(&plugin, "grants: { egress: [] }");
    assert_eq!(none.verdicts, [(Some(Wish::Egress), Verdict::Refused)]);
}

#[test]
fn the_suggested_rule_is_one_that_the_manifest_or_the_configuration_names_and_else_a_place_to_fill_in() {
    let http = || vec![import("wasi:http/outgoing-handler@0.2.12", Takes::Grant(Wish::Egress))];
    let config = "config: { url: \"https://rates.example.com/v1/{base}\" }";
    let asked = |egress: &[&str]| Some(vec![ask(Wish::Egress, false, egress)]);
    for (imports, asks, typed, suggested) in [
        (http(), asked(&["https://a.example.com"]), config, "https://a.example.com"),
        (http(), asked(&[]), config, "https://rates.example.com"),
        (http(), None, config, "https://rates.example.com"),
        (http(), None, "config: {}", "https://<host>"),
        (sockets_of("tcp"), None, "config: {}", "tcp://<host>:<port>"),
        (sockets_of("udp"), None, "config: {}", "udp://<host>:<port>"),
    ] {
        let plugin = examined(imports, asks);
        let found = of(&plugin, typed);
        let line = format!("grants: {{ egress: [{{ allow: \"{suggested}\" }}] }}");
        assert!(found.refusals[0].contains(&line), "{line}: {:?}", found.refusals);
        if !suggested.contains('<') {
            let granted = of(&plugin, &format!("{typed}\n    {line}"));
            assert_eq!((granted.refusals.len(), granted.verdicts[0].1), (0, Verdict::Linked), "{line}");
        }
    }
}

fn sockets_of(transport: &str) -> Vec<Imported> {
    vec![import(&format!("wasi:sockets/{transport}@0.2.12"), Takes::Grant(Wish::Egress))]
}

#[test]
fn a_network_without_a_rule_is_linked_with_the_word_that_every_call_is_refused() {
    let plugin = examined(vec![sockets()], None);
    let found = of(&plugin, "grants: { egress: [] }");
    assert_eq!((found.refusals.len(), found.verdicts[0].1), (0, Verdict::Warned));
    assert!(
        found.warnings.iter().any(|one| one.contains("every call to the network will be refused")),
        "{:?}",
        found.warnings
    );
    let observed = of(&plugin, "grants: { egress: [], egress_mode: observe }");
    assert!(!observed.warnings.iter().any(|one| one.contains("every call")), "observe mode lets them through");
}

#[test]
fn a_grant_above_a_ceiling_is_refused_with_whose_ceiling_it_is() {
    let plugin = examined(vec![clock()], Some(vec![ask(Wish::Clock, false, &[])]));
    let tenant = "tenants: { acme: { ceilings: { clock: coarse } } }\n";
    let found = judged(&plugin, "grants: { clock: precise }", tenant, false);
    assert_eq!((found.verdicts[0].1, found.places[0]), (Verdict::Refused, 7));
    assert!(
        found.refusals[0].contains("tenant `acme`") && found.refusals[0].contains("`clock: coarse`"),
        "{:?}",
        found.refusals
    );
    assert_eq!(judged(&plugin, "grants: { clock: coarse }", tenant, false).refusals, Vec::<String>::new());
    let found = judged(&plugin, "grants: { clock: coarse }", "ceilings: { clock: none }\n", false);
    assert!(found.refusals[0].contains("the node"), "{:?}", found.refusals);
    let network = examined(vec![sockets()], Some(vec![ask(Wish::Egress, false, &[])]));
    let ceiling = "ceilings: { egress: [\"https://*.example.com\"] }\n";
    let found =
        judged(&network, "grants: { egress: [\"https://a.example.com\", \"https://a.example.org\"] }", ceiling, false);
    assert_eq!(found.refusals.len(), 1);
    assert!(found.refusals[0].contains("https://a.example.org"), "{:?}", found.refusals);
}

#[test]
fn an_import_that_this_host_does_not_have_is_refused() {
    let found = of(&examined(vec![import("acme:x/y@1.0.0", Takes::Unknown)], Some(vec![])), "grants: {}");
    assert!(found.refusals[0].contains("acme:x/y@1.0.0, which this host does not know"), "{:?}", found.refusals);
    let found = of(&examined(vec![import("wasi:cli/run@0.3.0", Takes::NotAvailable("not here"))], None), "grants: {}");
    assert!(found.refusals[0].contains("not here"), "{:?}", found.refusals);
    let inert = of(&examined(vec![import("wasi:cli/environment@0.2.6", Takes::Inert)], Some(vec![])), "grants: {}");
    assert_eq!((inert.verdicts.as_slice(), inert.refusals.len()), (&[(None, Verdict::Linked)][..], 0));
}
