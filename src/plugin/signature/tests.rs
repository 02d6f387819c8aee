use super::*;
use crate::plugin::examine::tests::{contract, scan_of_world};

#[test]
fn every_function_of_the_contract_has_the_type_that_wit_says() {
    let world = "import portcullis:plugin/messages@0.1.0; import portcullis:plugin/edits@0.1.0; import portcullis:plugin/log@0.1.0;
        export portcullis:plugin/validation@0.1.0; export portcullis:plugin/enrichment@0.1.0;";
    let scan = scan_of_world(&contract(), world);
    let mut found: Vec<(String, String, String)> = Vec::new();
    for function in scan.imported.into_iter().chain(scan.exported) {
        let of = interface(&function.interface).strip_prefix(PACKAGE).unwrap().to_owned();
        let of = if function.name == "configure" { String::new() } else { of };
        found.push((of, function.name, function.shape));
    }
    found.sort();
    found.dedup();
    let mut expected: Vec<(String, String, String)> = FUNCTIONS
        .iter()
        .map(|(interface, name, shape)| ((*interface).to_owned(), (*name).to_owned(), (*shape).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}

fn check_of(contract: &str, world: &str) -> Result<(), String> {
    let scan = scan_of_world(contract, world);
    let names: Vec<&str> = scan.imports.iter().map(|import| import.name.as_str()).collect();
    let entry = crate::plugin::contract::entry(&scan.exports, &names).unwrap();
    check(&entry, &scan.imported, &scan.exported).map_err(|error| error.to_string())
}

#[test]
fn a_function_that_differs_is_named_with_both_types() {
    let validator = "include portcullis:plugin/validator@0.1.0;";
    assert_eq!(check_of(&contract(), validator), Ok(()));
    let without_null = contract().replace(
        "validate: func(m: borrow<message>, value: option<list<u8>>)",
        "validate: func(m: borrow<message>, value: list<u8>)",
    );
    let error = check_of(&without_null, validator).unwrap_err();
    assert!(
        error.contains("portcullis:plugin/validation@0.1.0.validate is `func(m: borrow<message>, value: list<u8>)"),
        "{error}"
    );
    assert!(error.contains("here it is `func(m: borrow<message>, value: option<list<u8>>) -> enum"), "{error}");
    let other_case = contract().replace("        reject,\n", "        reject,\n        skip,\n");
    assert!(check_of(&other_case, validator).unwrap_err().contains(".validate is"));
    let enricher = "include portcullis:plugin/enricher@0.1.0;";
    let error = check_of(
        &contract().replace(
            "remove-header: func(m: borrow<message>, name: string) -> u32",
            "remove-header: func(m: borrow<message>, name: string) -> u64",
        ),
        enricher,
    );
    assert!(error.unwrap_err().contains("portcullis:plugin/edits@0.1.0.remove-header"));
}

#[test]
fn a_function_that_one_side_lacks_is_named() {
    let validator = "include portcullis:plugin/validator@0.1.0;";
    let more = contract().replace("channel: func() -> string;", "channel: func() -> string;\n offset: func() -> s64;");
    let error = check_of(&more, validator).unwrap_err();
    assert!(error.contains("imports the function portcullis:plugin/messages@0.1.0.[method]message.offset"), "{error}");
    let text = contract();
    let start = text.find("interface validation").unwrap();
    let (before, validation) = text.split_at(start);
    let less = format!("{before}{}", validation.replacen("configure: func(json: string) -> result<_, string>;", "", 1));
    let error = check_of(&less, validator).unwrap_err();
    assert!(error.contains("lacks the function portcullis:plugin/validation@0.1.0.configure"), "{error}");
}

#[test]
fn a_type_that_grows_without_end_is_cut() {
    let mut types = "record t0 { a: u8 }\n".to_owned();
    for level in 1..16 {
        types.push_str(&format!("record t{level} {{ a: t{}, b: t{} }}\n", level - 1, level - 1));
    }
    let huge = contract().replace("interface log {", &format!("interface log {{ {types} bomb: func(t: t15);"));
    let error =
        check_of(&huge, "include portcullis:plugin/validator@0.1.0; import portcullis:plugin/log@0.1.0;").unwrap_err();
    assert!(error.contains("log@0.1.0.bomb") && error.len() < 2000, "{error}");
}
