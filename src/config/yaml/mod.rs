//! YAML as a tree in which every node knows its place.

mod build;
mod expand;
mod mask;
mod scalar;
mod tree;

pub(crate) use build::{Document, parse, parse_literal};
pub(crate) use scalar::Plain;
pub(crate) use tree::{Entry, Kind, Node, Scalar};
