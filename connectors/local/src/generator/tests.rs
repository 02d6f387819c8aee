use proptest::prelude::*;

use super::*;

const ALL: Budget = Budget { messages: 1000, bytes: 1 << 20 };

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn orders() -> GeneratorSettings {
    GeneratorSettings {
        count: Some(100),
        seed: 7,
        key: Some(pattern("customer-{{random:3}}")),
        value: GeneratedValue::Pattern(pattern("{\"id\":{{ seq }},\"trace\":\"{{uuid}}\"}")),
        headers: vec![("n".to_owned(), pattern("{{random}}"))],
        ..GeneratorSettings::default()
    }
}

fn messages(settings: GeneratorSettings) -> Vec<Message> {
    let mut generator = Generator::new(settings).unwrap();
    let mut batch = Batch::default();
    generator.poll(ALL, Duration::ZERO, &mut batch).unwrap();
    batch.records.into_iter().map(|record| record.message).collect()
}

#[test]
fn the_same_seed_gives_the_same_messages_and_another_gives_others() {
    let first = messages(orders());
    assert_eq!(first.len(), 100);
    assert_eq!(first, messages(orders()));
    let other = messages(GeneratorSettings { seed: 8, ..orders() });
    assert!(first.iter().all(|message| !other.contains(message)));
}

#[test]
fn placeholders_are_filled() {
    let message = Generator::message(&orders(), 41);
    let text = |bytes: &Option<Bytes>| String::from_utf8(bytes.clone().unwrap().to_vec()).unwrap();
    assert!(["customer-0", "customer-1", "customer-2"].contains(&text(&message.key).as_str()));
    let value = text(&message.value);
    let trace = value.strip_prefix("{\"id\":41,\"trace\":\"").unwrap().strip_suffix("\"}").unwrap();
    let dashes: Vec<usize> = trace.match_indices('-').map(|(index, _)| index).collect();
    assert_eq!((trace.len(), dashes), (36, vec![8, 13, 18, 23]));
    assert_eq!(trace.as_bytes()[14], b'4');
    assert!(text(&message.headers.last(b"n").unwrap().value).parse::<u64>().is_ok());
}

#[test]
fn a_value_of_so_many_bytes_has_so_many_printable_bytes() {
    for bytes in [0, 1, 9, 10, 11, 1000] {
        let settings = GeneratorSettings { value: GeneratedValue::Bytes(bytes), ..GeneratorSettings::default() };
        let value = Generator::message(&settings, 3).value.unwrap();
        assert_eq!(value.len(), bytes);
        assert!(value.iter().all(u8::is_ascii_graphic));
    }
}

#[test]
fn a_rate_is_kept_however_often_it_is_asked() {
    let settings = GeneratorSettings { rate: Some(200.0), ..GeneratorSettings::default() };
    let mut generator = Generator::new(settings).unwrap();
    let mut batch = Batch::default();
    let begin = Instant::now();
    while batch.records.len() < 40 {
        generator.poll(Budget { messages: 1, ..ALL }, Duration::from_millis(1), &mut batch).unwrap();
        let allowed = 1 + (begin.elapsed().as_secs_f64() * 200.0) as usize;
        assert!(batch.records.len() <= allowed, "{} after {:?}", batch.records.len(), begin.elapsed());
    }
    assert!(begin.elapsed() >= Duration::from_millis(190));
}

#[test]
fn a_generator_that_was_held_up_does_not_make_up_for_all_of_it() {
    let settings = GeneratorSettings { rate: Some(10.0), ..GeneratorSettings::default() };
    let mut generator = Generator::new(settings).unwrap();
    generator.paced_from = Instant::now().checked_sub(Duration::from_secs(60)).map(|begin| (begin, 0));
    let mut batch = Batch::default();
    for _ in 0..10 {
        generator.poll(ALL, Duration::ZERO, &mut batch).unwrap();
    }
    assert!((1..=12).contains(&batch.records.len()), "{}", batch.records.len());
}

#[test]
fn what_is_not_a_pattern_or_a_rate_is_refused() {
    assert_eq!(Pattern::parse("a {{seq").unwrap_err(), PatternError::Unclosed { column: 3 });
    for text in ["{{sequence}}", "{{random:0}}", "{{random:x}}", "{{}}"] {
        assert!(matches!(Pattern::parse(text), Err(PatternError::UnknownPlaceholder { column: 1, .. })), "{text}");
    }
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Generator::new(GeneratorSettings { rate: Some(rate), ..GeneratorSettings::default() }).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[{}a-z:0-9 é]{0,30}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            pattern.fill(1, &mut Random::new(1, 1));
        }
    }

    #[test]
    fn a_bounded_number_is_below_its_bound(seed in any::<u64>(), bound in 1..=u64::MAX) {
        prop_assert!(Random::new(seed, 1).below(bound) < bound);
    }
}
