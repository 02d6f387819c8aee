use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_connector_api::{Bytes, Header, Message};

use super::Expect;

/// Appends the message as one line, without a newline.
pub fn print(message: &Message, out: &mut Vec<u8>) {
    line(message, None, out);
}

pub(super) fn line(message: &Message, expect: Option<&Expect>, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(key) = &message.key {
        field("key", key, out);
        out.push(b',');
    }
    match &message.value {
        Some(value) => field("value", value, out),
        // A tombstone is worth being seen by a reader; for the parser it could as well be absent.
        None => out.extend_from_slice(b"\"value\":null"),
    }
    if !message.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":[");
        for (index, header) in message.headers.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            pair(header, out);
        }
        out.push(b']');
    }
    if let Some(ms) = message.timestamp.millis() {
        out.extend_from_slice(format!(",\"timestamp_ms\":{ms}").as_bytes());
    }
    out.extend_from_slice(b",\"channel\":");
    string(&message.channel, out);
    if let Some(expect) = expect {
        out.extend_from_slice(b",\"expect\":{\"outcome\":");
        string(expect.outcome.as_str(), out);
        if let Some(reason) = &expect.reason {
            out.extend_from_slice(b",\"reason\":");
            string(reason, out);
        }
        out.push(b'}');
    }
    out.push(b'}');
}

fn field(name: &str, bytes: &Bytes, out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(format!("\"{name}\":").as_bytes());
            string(text, out);
        }
        Err(_) => {
            out.extend_from_slice(format!("\"{name}_b64\":").as_bytes());
            base64(bytes, out);
        }
    }
}

fn pair(header: &Header, out: &mut Vec<u8>) {
    out.push(b'[');
    part(Some(&header.name), out);
    out.push(b',');
    part(header.value.as_ref(), out);
    out.push(b']');
}

fn part(bytes: Option<&Bytes>, out: &mut Vec<u8>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => out.extend_from_slice(b"null"),
        Some(Ok(text)) => string(text, out),
        Some(Err(bytes)) => {
            out.extend_from_slice(b"{\"b64\":");
            base64(bytes, out);
            out.push(b'}');
        }
    }
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
