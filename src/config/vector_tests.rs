//! The egress vectors whose answer is a refused configuration, named after their ids.

use std::path::Path;

use crate::*;

/// What reading the pipeline and then checking it on the node say: codes, and the form for people. `egress` is the list.
fn found(node: &str, egress: &str) -> (Vec<String>, Diagnostics) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let text = format!(
        "pipeline: p\nsource: {{ stdio: }}\nsink: {{ stdio: }}\nplugins:\n  - name: probe\n    component: probe.wasm\n    grants:\n      egress:{egress}\n"
    );
    std::fs::write(&file, text).unwrap();
    let node = load_node(Some((Path::new("portcullis.yaml"), node.as_bytes())), &NoEnvironment, &Flags::new());
    let node = node.unwrap_or_else(|found| panic!("{found}"));
    let found = match read_pipeline(&file, &NoEnvironment) {
        Ok(pipeline) => node.check(&pipeline),
        Err(found) => found,
    };
    assert!(found.iter().all(|diagnostic| diagnostic.at.file() == file.display().to_string()), "{found}");
    (found.to_json().as_array().unwrap().iter().map(|d| d["code"].as_str().unwrap().to_owned()).collect(), found)
}

/// The same of one rule, which every error points at.
fn refused(node: &str, rule: &str) -> (Vec<String>, String) {
    let (codes, found) = found(node, &format!("\n        - {rule}"));
    assert!(found.iter().all(|diagnostic| diagnostic.at.line == 9), "{found}");
    (codes, found.render(false))
}

#[test]
fn every_vectors_egress_list_is_refused_or_taken_as_it_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/attack/egress-vectors.jsonl");
    let (mut refusals, mut runs) = (0, 0);
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let list = |part: &str| vector[part].get("egress").map(|egress| format!(" {egress}"));
        if let Some(egress) = list("config") {
            let (codes, shown) = found("", &egress);
            let allowed = vector["config"]["refused"].as_array().unwrap();
            assert!(
                !codes.is_empty() && codes.iter().all(|code| allowed.contains(&code.as_str().into())),
                "{line}\n{shown}"
            );
            refusals += 1;
        }
        if let Some(egress) = list("run") {
            let deny = vector["run"]
                .get("operator_deny")
                .map_or(String::new(), |deny| format!("egress: {{ deny: {deny} }}\n"));
            let (codes, shown) = found(&deny, &egress);
            assert!(codes.is_empty(), "{line}\n{shown}");
            runs += 1;
        }
    }
    assert!(refusals >= 9 && runs >= 53, "{refusals} {runs}");
}

fn holds(allow: &str, slug: &str) -> String {
    // As JSON, as a map and as text alone.
    let forms = [format!("{{\"allow\": \"{allow}\"}}"), format!("allow: '{allow}'"), format!("'{allow}'")];
    let mut shown = String::new();
    for egress in forms {
        let (codes, rendered) = refused("", &egress);
        assert_eq!(codes, [slug], "{egress}: {rendered}");
        shown = rendered;
    }
    shown
}

#[test]
fn j01_a_star_alone_is_a_match_all() {
    holds("*", "match_all");
}

#[test]
fn j04_a_wildcard_in_a_label_is_refused() {
    holds("https://*example.com", "wildcard_partial");
}

#[test]
fn j07_a_wildcard_over_a_public_suffix_is_refused() {
    holds("https://*.com", "public_suffix");
}

#[test]
fn j10_a_host_that_is_not_canonical_is_refused_with_the_suggestion() {
    let shown = holds("https://EXAMPLE.com.", "non_canonical");
    assert!(shown.contains("https://example.com"), "{shown}");
}

#[test]
fn j13_port_0_is_refused() {
    holds("https://example.com:0", "port_invalid");
}

#[test]
fn j16_an_address_in_another_spelling_is_refused() {
    holds("tcp://0x7f000001:80", "address_noncanonical");
}

#[test]
fn j19_an_address_that_embeds_another_is_refused() {
    holds("tcp://[::ffff:10.0.0.1]:80", "address_embedding");
}

#[test]
fn j22_a_wildcard_over_an_address_is_refused() {
    holds("https://*.127.0.0.1", "wildcard_address");
}

#[test]
fn d28_a_rule_that_expects_link_local_answers_needs_the_operators_consent() {
    let rule = "{\"allow\": \"https://svc.internal.test:80\", \"addresses\": [\"169.254.0.0/16\"]}";
    assert_eq!(refused("", rule).0, ["grant_special_range"]);
    assert_eq!(refused("egress: { consent: [\"169.254.0.0/16\"] }\n", rule).0, [""; 0]);
}

#[test]
fn b46_a_rule_under_an_operators_deny_can_never_take_effect() {
    let consent = "consent: [\"169.254.169.254\"]";
    for deny in ["169.254.0.0/16", "tcp://169.254.0.0/16:*", "tcp://169.254.169.254:80"] {
        let node = format!("egress: {{ deny: [\"{deny}\"], {consent} }}\n");
        assert_eq!(refused(&node, "\"tcp://169.254.169.254:80\"").0, ["grant_overridden_by_deny"], "{deny}");
    }
    let tenantless = "egress: { deny: [\"169.254.0.0/16\"] }\n";
    let codes = refused(tenantless, "\"tcp://169.254.169.254:80\"").0;
    assert!(codes.contains(&"grant_overridden_by_deny".to_owned()), "{codes:?}");
}
