use super::*;

fn of(text: &str) -> Result<Manifest, String> {
    claimed(text.as_bytes(), None).map(|claimed| claimed.manifest).map_err(|error| error.to_string())
}

const GOOD: &str = r#"{"manifest":1,"name":"fx-rates","version":"1.2.0-rc.1+x","world":"enricher","capabilities":[
    {"name":"egress","reason":"asks for the rate","egress":["https://rates.example.com"]},
    {"name":"clock","reason":"the age of what it keeps","optional":true}],
    "config_schema":{"type":"object"}}"#;

#[test]
fn a_manifest_says_what_a_component_asks_for_and_why() {
    let manifest = of(GOOD).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.world), ("fx-rates", Kind::Enricher));
    let egress = manifest.ask(Wish::Egress).unwrap();
    assert_eq!((egress.optional, egress.egress.as_slice()), (false, &["https://rates.example.com".to_owned()][..]));
    assert!(manifest.ask(Wish::Clock).unwrap().optional);
    assert_eq!(manifest.ask(Wish::Log), None);
    assert!(manifest.config_schema.is_some());
}

#[test]
fn what_a_manifest_cannot_say_is_refused_with_its_reason() {
    let with = |from: &str, to: &str| of(&GOOD.replacen(from, to, 1)).unwrap_err();
    for (from, to, piece) in [
        (r#""manifest":1"#, r#""manifest":2"#, "a form that this host does not know"),
        (r#""manifest":1"#, r#""manifest":1,"grants":{}"#, "unknown field `grants`"),
        (r#""optional":true"#, r#""optinal":true"#, "unknown field `optinal`"),
        (r#""version""#, r#""name":"x","version""#, "duplicate field `name`"),
        ("fx-rates", "fx rates", "`name: fx rates`"),
        ("fx-rates", "", "`name: `"),
        ("fx-rates", r"a\u001b[31m", "`name: a\\u{1b}[31m`"),
        (r#""clock""#, r#""filesystem""#, "unknown variant `filesystem`"),
        (r#""clock","reason""#, r#""egress","reason""#, "asks for `egress` twice"),
        ("the age of what it keeps", " ", "the `reason` for `clock`"),
        (r#""optional":true"#, r#""egress":["https://a.example.com"]"#, "only `egress` has one"),
        ("https://rates.example.com", "rates.example.com/v1", "destination `rates.example.com/v1`"),
        (r#"{"type":"object"}"#, r#""a schema""#, "not a JSON Schema"),
        (r#""world":"enricher""#, r#""world":"sink""#, "unknown variant `sink`"),
        (r#""world":"enricher","#, "", "missing field `world`"),
    ] {
        let error = with(from, to);
        assert!(error.contains(piece), "{to}: {error}");
    }
    assert!(of(&format!("{GOOD}{GOOD}")).unwrap_err().contains("trailing characters"));
    assert!(claimed(&[0xff, 0xfe], None).is_err());
    assert!(of(&GOOD.replace("asks for the rate", &"a".repeat(513))).unwrap_err().contains("512 bytes"));
}

#[test]
fn a_manifest_past_its_bound_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fx.wasm.manifest.yaml");
    for (bytes, fits) in [(MAX_BYTES, true), (MAX_BYTES + 1, false)] {
        std::fs::write(&file, vec![b' '; bytes]).unwrap();
        assert_eq!(read(&file).is_ok(), fits, "{bytes} bytes");
    }
}

#[test]
fn a_reason_cannot_fool_a_terminal() {
    let manifest = of(&GOOD.replace("asks for the rate", "a\\u202eb\\nc")).unwrap();
    assert_eq!(manifest.ask(Wish::Egress).unwrap().reason, "a\\u{202e}b\\nc");
}

fn sections(root: &[&str], modules: &[&str]) -> Sections {
    let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    Sections { root: bytes(root), modules: bytes(modules) }
}

fn found(component: &Path, sections: &Sections) -> Result<Option<String>, String> {
    find(component, sections)
        .map(|claimed| claimed.map(|claimed| claimed.manifest.name))
        .map_err(|error| error.to_string())
}

#[test]
fn the_components_own_section_wins_and_several_at_one_depth_are_refused() {
    let nowhere = Path::new("no/such/component.wasm");
    let other = GOOD.replace("fx-rates", "other");
    assert_eq!(found(nowhere, &sections(&[], &[])), Ok(None));
    assert_eq!(found(nowhere, &sections(&[], &[GOOD])), Ok(Some("fx-rates".to_owned())));
    assert_eq!(found(nowhere, &sections(&[&other], &[GOOD])), Ok(Some("other".to_owned())));
    for twice in [sections(&[], &[GOOD, GOOD]), sections(&[GOOD, GOOD], &[])] {
        assert!(found(nowhere, &twice).unwrap_err().contains("2 sections"));
    }
}

#[test]
fn a_file_beside_the_component_holds_the_same_form_as_yaml_and_must_not_contradict_it() {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("fx.wasm");
    let file = folder.path().join("fx.wasm.manifest.yaml");
    let yaml = "manifest: 1\nname: fx-rates\nversion: 1.2.0\nworld: enricher\ncapabilities:\n  - { name: clock, reason: age }\n";
    std::fs::write(&file, yaml).unwrap();
    let claimed = find(&component, &sections(&[], &[])).unwrap().unwrap();
    assert_eq!((claimed.manifest.version.as_str(), claimed.file.as_ref()), ("1.2.0", Some(&file)));
    assert!(claimed.digest.starts_with("sha256:"));
    let same = r#"{"manifest":1,"name":"fx-rates","version":"1.2.0","world":"enricher","capabilities":[{"name":"clock","reason":"age"}]}"#;
    assert_eq!(find(&component, &sections(&[same], &[])).unwrap().unwrap().file, None);
    assert!(found(&component, &sections(&[GOOD], &[])).unwrap_err().contains("they differ"));
    for wrong in
        ["manifest: 1\nmanifest: 1\n", "- a\n", "manifest: 1\nname: a\nversion: 1\nworld: enricher\nx: 1\n", ""]
    {
        std::fs::write(&file, wrong).unwrap();
        assert!(found(&component, &sections(&[], &[])).is_err(), "{wrong}");
    }
}

#[test]
fn a_manifest_beside_a_component_has_no_use_for_aliases() {
    let bomb = (1..6).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        text + &format!("    a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))
    });
    let text = format!("manifest: 1\nname: a\nversion: 1.0.0\nworld: validator\nconfig_schema:\n    {bomb}");
    let beside = |text: &str| claimed(text.as_bytes(), Some(PathBuf::from("a.wasm.manifest.yaml")));
    let error = beside(&text).unwrap_err().to_string();
    assert!(error.contains("alias") && error.len() < 1000, "{error}");
    assert!(beside(text.split("config_schema").next().unwrap()).is_ok());
}
