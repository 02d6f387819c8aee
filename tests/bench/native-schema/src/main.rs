//! What the plugin json-schema does with a message, run natively: parse, check, and say what is wrong. Started by
//! `bench-schema` as `native-schema SCHEMA DOCUMENT...`; each line `DOCUMENT CALLS` of its standard input is answered with
//! the nanoseconds of CPU time that so many calls took.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};

use jsonschema::Draft;
use serde_json::Value;

/// The plugin's own.
#[path = "../../../../plugins/json-schema/src/detail.rs"]
mod detail;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let schema: Value = serde_json::from_slice(&std::fs::read(arguments.next().ok_or("a schema is missing")?)?)?;
    let documents: Vec<Vec<u8>> = arguments.map(std::fs::read).collect::<Result<_, _>>()?;
    let validator = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(false)
        .should_ignore_unknown_formats(true)
        .build(&schema)
        .map_err(|error| error.to_string())?;
    let names = detail::names(&schema);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (document, calls) = line.split_once(' ').ok_or("a line is `DOCUMENT CALLS`")?;
        let document = documents.get(document.parse::<usize>()?).ok_or("there is no such document")?;
        let begin = cpu_ns()?;
        for _ in 0..calls.parse::<u32>()? {
            let value: Value = serde_json::from_slice(black_box(document))?;
            if !validator.is_valid(&value) {
                black_box(detail::describe(validator.iter_errors(&value), &names));
            }
        }
        println!("{}", cpu_ns()? - begin);
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// CPU time that this thread has used.
fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?)
}
