//! `portcullis schema`.

use clap::Args;
use portcullis_config::{SchemaOf, schema as schema_of};

use super::{DONE, FAILED};

#[derive(Args, Clone, Debug)]
pub(super) struct SchemaArguments {
    /// That of the node's file, portcullis.yaml, and not that of a pipeline file.
    #[arg(long)]
    node: bool,
}

pub(super) fn schema(arguments: &SchemaArguments) -> u8 {
    let of = if arguments.node { SchemaOf::Node } else { SchemaOf::Pipeline };
    match serde_json::to_string_pretty(&schema_of(of)) {
        Ok(text) => {
            println!("{text}");
            DONE
        }
        Err(error) => {
            eprintln!("portcullis: the schema cannot be printed: {error}");
            FAILED
        }
    }
}
