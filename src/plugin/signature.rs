//! The types of the functions of the contract, as WIT writes them, so that a component that does not fit is refused with the
//! name of the function that differs and both types. The linker checks the same again and names only the interface.

use std::collections::HashMap;

use wasmparser::component_types::{
    AliasableResourceId, ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncType,
    ComponentInstanceType, ComponentValType, ResourceId,
};
use wasmparser::types::TypesRef;

use super::contract::{Entry, PACKAGE, VERSION, interface};
use super::error::LinkError;

/// The functions of the contract by interface and name. A test holds them against `wit/`.
const FUNCTIONS: [(&str, &str, &str); 15] = [
    ("messages", "[method]message.key", "func(self: borrow<message>) -> option<list<u8>>"),
    (
        "messages",
        "[method]message.header",
        "func(self: borrow<message>, name: string) -> option<record { name: string, value: option<list<u8>> }>",
    ),
    (
        "messages",
        "[method]message.headers",
        "func(self: borrow<message>) -> list<record { name: string, value: option<list<u8>> }>",
    ),
    ("messages", "[method]message.timestamp-ms", "func(self: borrow<message>) -> option<s64>"),
    ("messages", "[method]message.channel", "func(self: borrow<message>) -> string"),
    ("messages", "[method]message.reason", "func(self: borrow<message>, code: string, detail: string)"),
    ("edits", "set-value", "func(m: borrow<message>, value: option<list<u8>>)"),
    ("edits", "set-key", "func(m: borrow<message>, key: option<list<u8>>)"),
    ("edits", "set-header", "func(m: borrow<message>, name: string, value: option<list<u8>>)"),
    ("edits", "append-header", "func(m: borrow<message>, header: record { name: string, value: option<list<u8>> })"),
    ("edits", "remove-header", "func(m: borrow<message>, name: string) -> u32"),
    ("log", "write", "func(level: enum { debug, info, warn, error }, text: string)"),
    ("validation", "validate", PROCESS),
    ("enrichment", "enrich", PROCESS),
    // Of both worlds.
    ("", "configure", "func(json: string) -> result<_, string>"),
];
const PROCESS: &str = "func(m: borrow<message>, value: option<list<u8>>) -> enum { pass, drop, reject, retry }";

/// A type longer than this is none of the contract's, and a hostile one can be written in few bytes and printed in many.
const MAX_TYPE_BYTES: usize = 400;

/// A function of an interface of the contract, as a component has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// With its version.
    pub(super) interface: String,
    pub(super) name: String,
    /// As WIT writes it, every named type but resources written out.
    pub(super) shape: String,
}

/// Refuses a component whose functions of the contract have other types than the host's.
pub(super) fn check(entry: &Entry, imported: &[Function], exported: &[Function]) -> Result<(), LinkError> {
    for function in imported {
        let expected = expected(&function.interface, &function.name);
        if expected != Some(function.shape.as_str()) {
            return Err(differs(&function.interface, &function.name, Some(&function.shape), expected));
        }
    }
    for name in ["configure", entry.kind.function()] {
        let expected = expected(&entry.export, name);
        let found = exported.iter().find(|function| function.interface == entry.export && function.name == name);
        let found = found.map(|function| function.shape.as_str());
        if found != expected {
            return Err(differs(&entry.export, name, found, expected));
        }
    }
    Ok(())
}

fn expected(full: &str, name: &str) -> Option<&'static str> {
    let of = interface(full).strip_prefix(PACKAGE)?;
    let of = if name == "configure" && matches!(of, "validation" | "enrichment") { "" } else { of };
    FUNCTIONS.iter().find(|(interface, function, _)| (*interface, *function) == (of, name)).map(|(.., shape)| *shape)
}

fn differs(interface: &str, function: &str, found: Option<&str>, expected: Option<&'static str>) -> LinkError {
    LinkError::Function {
        function: format!("{interface}.{function}"),
        found: found.map(str::to_owned),
        expected: expected.map(str::to_owned),
        version: VERSION,
    }
}

/// Writes the functions of a validated component.
pub(super) struct Printer<'a> {
    types: TypesRef<'a>,
    /// The resources that the root imports, by name: a function's type knows only their numbers.
    resources: HashMap<ResourceId, &'a str>,
}

impl<'a> Printer<'a> {
    pub(super) fn new<'n>(types: TypesRef<'a>, imports: impl Iterator<Item = &'n str>) -> Self {
        let instances = imports.filter_map(|import| instance(types, types.component_item_for_import(import)?.ty));
        let resources = instances.flat_map(|instance| &instance.exports).filter_map(|(name, item)| match item.ty {
            ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } => {
                Some((id.resource(), name.as_str()))
            }
            _ => None,
        });
        Self { types, resources: resources.collect() }
    }

    /// The functions of an import of the root, where it is one of the contract.
    pub(super) fn imported(&self, name: &str) -> Vec<Function> {
        self.functions(name, self.types.component_item_for_import(name).map(|item| item.ty))
    }

    /// The same of an export.
    pub(super) fn exported(&self, name: &str) -> Vec<Function> {
        self.functions(name, self.types.component_item_for_export(name).map(|item| item.ty))
    }

    fn functions(&self, interface: &str, item: Option<ComponentEntityType>) -> Vec<Function> {
        if !interface.starts_with(PACKAGE) {
            return Vec::new();
        }
        let Some(instance) = item.and_then(|item| instance(self.types, item)) else { return Vec::new() };
        let of = |(name, ty): (&String, ComponentEntityType)| {
            let ComponentEntityType::Func(id) = ty else { return None };
            let shape = self.function(self.types.get(id)?);
            Some(Function { interface: interface.to_owned(), name: name.clone(), shape })
        };
        instance.exports.iter().filter_map(|(name, item)| of((name, item.ty))).collect()
    }

    fn function(&self, function: &ComponentFuncType) -> String {
        let mut text = Text { printer: self, text: String::new() };
        text.put(if function.async_ { "async func(" } else { "func(" });
        for (index, (name, ty)) in function.params.iter().enumerate() {
            text.put(if index == 0 { "" } else { ", " });
            text.put(name.as_str());
            text.put(": ");
            text.value(*ty);
        }
        text.put(")");
        if let Some(result) = function.result {
            text.put(" -> ");
            text.value(result);
        }
        if text.text.len() > MAX_TYPE_BYTES {
            format!("{}...", super::text::cut(&text.text, MAX_TYPE_BYTES))
        } else {
            text.text
        }
    }
}

fn instance(types: TypesRef<'_>, item: ComponentEntityType) -> Option<&ComponentInstanceType> {
    match item {
        ComponentEntityType::Instance(id) => types.get(id),
        _ => None,
    }
}

struct Text<'p, 'a> {
    printer: &'p Printer<'a>,
    text: String,
}

impl Text<'_, '_> {
    fn put(&mut self, piece: &str) {
        // Every step of the recursion comes past here with at least one character, and stops when there are enough.
        if self.text.len() <= MAX_TYPE_BYTES {
            self.text.push_str(piece);
        }
    }

    fn value(&mut self, ty: ComponentValType) {
        if self.text.len() > MAX_TYPE_BYTES {
            return;
        }
        match ty {
            ComponentValType::Primitive(primitive) => self.put(&primitive.to_string()),
            ComponentValType::Type(id) => match self.printer.types.get(id) {
                Some(defined) => self.defined(defined),
                None => self.put("?"),
            },
        }
    }

    fn defined(&mut self, ty: &ComponentDefinedType) {
        match ty {
            ComponentDefinedType::Primitive(primitive) => self.put(&primitive.to_string()),
            ComponentDefinedType::Record(record) => {
                let fields = record.fields.iter().map(|(name, ty)| (name.as_str(), Some(*ty), ": "));
                self.braces("record", fields);
            }
            ComponentDefinedType::Variant(variant) => {
                self.braces("variant", variant.cases.iter().map(|(name, case)| (name.as_str(), case.ty, " ")));
            }
            ComponentDefinedType::Flags(names) => {
                self.braces("flags", names.iter().map(|name| (name.as_str(), None, "")));
            }
            ComponentDefinedType::Enum(names) => {
                self.braces("enum", names.iter().map(|name| (name.as_str(), None, "")));
            }
            ComponentDefinedType::List { element, .. } => self.angles("list", &[Some(*element)]),
            ComponentDefinedType::Map { key, value, .. } => self.angles("map", &[Some(*key), Some(*value)]),
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                self.angles("list", &[Some(*element)]);
                self.put(&format!("[{length}]"));
            }
            ComponentDefinedType::Tuple(tuple) => {
                self.angles("tuple", &tuple.types.iter().map(|ty| Some(*ty)).collect::<Vec<_>>());
            }
            ComponentDefinedType::Option { ty, .. } => self.angles("option", &[Some(*ty)]),
            ComponentDefinedType::Result { ok, err, .. } => self.angles("result", &[*ok, *err]),
            ComponentDefinedType::Own(id) => self.resource("own", *id),
            ComponentDefinedType::Borrow(id) => self.resource("borrow", *id),
            ComponentDefinedType::Future { ty, .. } => self.angles("future", &[*ty]),
            ComponentDefinedType::Stream { ty, .. } => self.angles("stream", &[*ty]),
        }
    }

    fn braces<'n>(&mut self, word: &str, parts: impl Iterator<Item = (&'n str, Option<ComponentValType>, &'n str)>) {
        self.put(word);
        for (index, (name, ty, between)) in parts.enumerate() {
            self.put(if index == 0 { " { " } else { ", " });
            self.put(name);
            if let Some(ty) = ty {
                self.put(between);
                self.value(ty);
            }
        }
        self.put(" }");
    }

    fn angles(&mut self, word: &str, parts: &[Option<ComponentValType>]) {
        self.put(word);
        for (index, ty) in parts.iter().enumerate() {
            self.put(if index == 0 { "<" } else { ", " });
            match ty {
                Some(ty) => self.value(*ty),
                None => self.put("_"),
            }
        }
        self.put(">");
    }

    fn resource(&mut self, word: &str, id: AliasableResourceId) {
        let name = self.printer.resources.get(&id.resource()).copied().unwrap_or("a resource of its own");
        self.put(word);
        self.put("<");
        self.put(name);
        self.put(">");
    }
}

#[cfg(test)]
mod tests;
