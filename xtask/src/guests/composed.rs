//! Hostile components that no compiler makes: a guest with sections of a component put behind its own. The format is that of the
//! component model's binary: a section is an identifier, its length and its contents.

use anyhow::{Context as _, Result};

const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const COMPONENT: u8 = 4;

/// How many memories `many-memories` has beside its own, and the pages of each: together a gibibyte.
const MEMORIES: usize = 64;
const PAGES: usize = 256;

/// The component as it is to be, for the guests that are named here; every other one as it was built. `built` gives the bytes of
/// another guest of this build.
pub(super) fn compose(name: &str, bytes: Vec<u8>, built: impl Fn(&str) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    match name {
        "many-memories" => many_memories(bytes),
        "smuggles-a-component" => {
            let mut bytes = bytes;
            section(&mut bytes, COMPONENT, &built("imports-sockets")?);
            Ok(bytes)
        }
        "carries-two-manifests" => {
            let mut bytes = bytes;
            for world in ["validator", "enricher"] {
                let manifest = format!(
                    r#"{{"manifest":1,"name":"{name}","version":"0.1.0","world":"{world}","capabilities":[]}}"#
                );
                let mut contents = Vec::new();
                text(&mut contents, "portcullis:manifest");
                contents.extend_from_slice(manifest.as_bytes());
                section(&mut bytes, CUSTOM, &contents);
            }
            Ok(bytes)
        }
        _ => Ok(bytes),
    }
}

/// Core modules with nothing but a memory, and an instance of each: none alone is beyond a limit.
fn many_memories(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let first = core_modules(&bytes).context("the guest is no component")?;
    let mut memory = vec![1, 0];
    number(&mut memory, PAGES);
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 5, &memory);
    for _ in 0..MEMORIES {
        section(&mut bytes, CORE_MODULE, &module);
    }
    let mut instances = Vec::new();
    number(&mut instances, MEMORIES);
    for module in first..first + MEMORIES {
        instances.push(0); // instantiate
        number(&mut instances, module);
        number(&mut instances, 0); // with nothing
    }
    section(&mut bytes, CORE_INSTANCE, &instances);
    Ok(bytes)
}

/// How many core modules the component itself has, and so the index of the next one.
fn core_modules(component: &[u8]) -> Option<usize> {
    let mut rest = component.get(8..)?;
    let mut modules = 0;
    while let Some((&id, after)) = rest.split_first() {
        let (length, contents) = read_number(after)?;
        rest = contents.get(length..)?;
        modules += usize::from(id == CORE_MODULE);
    }
    Some(modules)
}

fn section(bytes: &mut Vec<u8>, id: u8, contents: &[u8]) {
    bytes.push(id);
    number(bytes, contents.len());
    bytes.extend_from_slice(contents);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// LEB128, unsigned.
fn number(bytes: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn read_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component() -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        section(&mut bytes, CORE_MODULE, b"\0asm\x01\0\0\0");
        section(&mut bytes, CUSTOM, &[0; 300]);
        bytes
    }

    #[test]
    fn a_number_is_read_as_it_was_written() {
        for value in [0, 1, 127, 128, 300, 1 << 20] {
            let mut bytes = Vec::new();
            number(&mut bytes, value);
            assert_eq!(read_number(&bytes), Some((value, [].as_slice())));
        }
    }

    #[test]
    fn each_memory_has_a_module_and_an_instance_of_its_own() {
        let bytes = compose("many-memories", component(), |_| unreachable!()).unwrap();
        assert!(bytes.starts_with(&component()));
        assert_eq!(core_modules(&bytes), Some(1 + MEMORIES));
    }

    #[test]
    fn only_the_guests_that_are_named_are_changed() {
        assert_eq!(compose("touch", component(), |_| unreachable!()).unwrap(), component());
        let bytes = compose("smuggles-a-component", component(), |_| Ok(component())).unwrap();
        assert_eq!(bytes.len(), 2 * component().len() + 3);
    }
}
