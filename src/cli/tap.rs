//! `portcullis tap`: messages as they pass in the bridge that runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use portcullis_config::{
    Flags, ProcessEnvironment, discover_node, format_duration, parse_duration, parse_size, read_node,
};
use serde_json::Value;

use super::words::{self, word};
use super::{DONE, FAILED, Format, REFUSED};
use crate::plugin::tame;

const CONNECT: Duration = Duration::from_secs(5);
/// The bridge says something every five seconds.
const SILENCE: Duration = Duration::from_secs(20);
/// The longest line that is read, and the head of an answer.
const LINE_BYTES: u64 = 4 * 1024 * 1024;
const HEAD_LINES: usize = 64;

#[derive(Args, Clone, Debug)]
pub(super) struct TapArguments {
    /// A pipeline file of the bridge that runs, or the folder of them.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to look: `source`, `sink` or the name of a plugin (`plugin/NAME` where it is called as an end).
    #[arg(long, value_name = "PLACE", value_parser = place)]
    at: String,
    /// The pipeline; otherwise the file's.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pipeline: Option<String>,
    /// Shows keys, values, the values of headers and plugins' own sentences, where the node's file says `admin: { tap: payload }`.
    #[arg(long)]
    payload: bool,
    /// So many bytes of the payload of each message, at most 64KiB; 1KiB when absent.
    #[arg(long, value_name = "SIZE", requires = "payload", value_parser = parse_size)]
    bytes: Option<u64>,
    /// Each N-th message of a partition: the same ones at every place.
    #[arg(long, value_name = "1/N", value_parser = sample)]
    sample: Option<NonZeroU64>,
    /// Ends after so many.
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU64>,
    /// Ends after this time, at most 1h, which it is when absent.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    lasts: Option<Duration>,
    /// How messages are printed; `json`: one object a line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The node's file; otherwise `portcullis.yaml` beside the pipeline file, otherwise defaults.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Where the bridge's admin endpoint listens, over the node's file.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<SocketAddr>,
}

/// What is typed becomes a part of an address: what no name has is refused, and not changed into another name.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("allowed: a name of lower-case letters, digits and `-`".to_owned()),
    }
}

fn place(text: &str) -> Result<String, String> {
    let plugin = text.strip_prefix("plugin/").unwrap_or(text);
    name(plugin).map(|_| text.to_owned()).map_err(|_| {
        "allowed: `source`, `sink`, or the name of a plugin: lower-case letters, digits and `-`".to_owned()
    })
}

fn sample(text: &str) -> Result<NonZeroU64, String> {
    let number = text.strip_prefix("1/").unwrap_or(text);
    number.parse().map_err(|_| "allowed: 1/N, such as 1/100".to_owned())
}

pub(super) fn tap(arguments: &TapArguments) -> u8 {
    match shown(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            FAILED
        }
    }
}

fn shown(arguments: &TapArguments) -> anyhow::Result<u8> {
    let address = address(arguments)?;
    let mut reader = asked(address, &query(arguments)).with_context(|| {
        format!("no bridge answers at {address} (admin.listen); `--admin HOST:PORT` names another place")
    })?;
    let status = status(&mut reader)?;
    if status != 200 {
        let mut why = String::new();
        reader.take(LINE_BYTES).read_to_string(&mut why)?;
        eprintln!("portcullis: the bridge at {address} refuses the tap: {} ({status})", tame(why.trim(), 1024));
        return Ok(REFUSED);
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line);
        if read.context("the bridge says nothing any more")? == 0 {
            bail!("the bridge has ended the tap");
        }
        let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
        let printed = match arguments.format {
            Format::Json => Some(value.to_string()),
            Format::Text => text(&value),
        };
        let mut out = std::io::stdout().lock();
        // Whoever read this has gone.
        if printed.is_some_and(|printed| writeln!(out, "{printed}").and_then(|()| out.flush()).is_err()) {
            return Ok(DONE);
        }
        if value.get("end").is_some() {
            return Ok(DONE);
        }
    }
}

/// Where the bridge of this file listens.
fn address(arguments: &TapArguments) -> anyhow::Result<SocketAddr> {
    let address = match arguments.admin {
        Some(address) => address,
        None => {
            let beside = if arguments.file.is_dir() { arguments.file.join("x") } else { arguments.file.clone() };
            let file = discover_node(arguments.node.as_deref(), Some(&beside));
            let node = read_node(file.as_deref(), &ProcessEnvironment, &Flags::new());
            let node = node.map_err(|wrong| {
                anyhow::anyhow!(
                    "{}the node's file cannot be read; `--admin HOST:PORT` does without",
                    wrong.render(false)
                )
            })?;
            node.admin.listen.value
        }
    };
    if address.port() == 0 {
        bail!("the node's file leaves the port of `admin.listen` open; `--admin HOST:PORT` names it");
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

fn query(arguments: &TapArguments) -> String {
    // No value has a character that an address would read as syntax: they are names, numbers and times.
    let mut query = format!("at={}", arguments.at);
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            query.push_str(&format!("&{key}={value}"));
        }
    };
    put("pipeline", arguments.pipeline.clone().or_else(|| name_in(arguments)));
    put("payload", arguments.payload.then(|| "true".to_owned()));
    put("bytes", arguments.bytes.map(|bytes| bytes.to_string()));
    put("sample", arguments.sample.map(|sample| sample.to_string()));
    put("limit", arguments.limit.map(|limit| limit.to_string()));
    put("for", arguments.lasts.map(format_duration));
    query
}

/// The file's pipeline. Where it cannot be read here (its variables are the bridge's), the bridge knows which it has.
fn name_in(arguments: &TapArguments) -> Option<String> {
    let pipeline = portcullis_config::read_pipeline(&arguments.file, &ProcessEnvironment).ok()?;
    Some(pipeline.name.value)
}

fn asked(address: SocketAddr, query: &str) -> std::io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(CONNECT))?;
    // In HTTP/1.0 the answer ends with the connection and has no chunks.
    write!(stream, "GET /tap?{query} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    Ok(BufReader::new(stream))
}

/// Reads the head of the answer.
fn status(reader: &mut impl BufRead) -> anyhow::Result<u16> {
    let mut status = None;
    for _ in 0..HEAD_LINES {
        let mut line = String::new();
        reader.take(LINE_BYTES).read_line(&mut line).context("the bridge does not answer")?;
        if status.is_none() {
            let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.trim().parse().ok());
            status = Some(code.context("what answers is no bridge")?);
        }
        if line.trim_end().is_empty() {
            return status.context("what answers is no bridge");
        }
    }
    bail!("what answers is no bridge")
}

/// A line for people; none for what only programs need.
fn text(line: &Value) -> Option<String> {
    if let Some(begin) = line.get("tap") {
        let of = begin["sample"].as_u64().filter(|sample| *sample > 1);
        let of = of.map(|sample| format!(", 1 of {sample}")).unwrap_or_default();
        return Some(format!("tap of {} at {}{of}; Ctrl-C ends it", word(&begin["pipeline"]), word(&begin["at"])));
    }
    if let Some(count) = line.get("not_shown") {
        return Some(format!("({count} not shown: they pass faster than they are read; --sample 1/N shows fewer)"));
    }
    if let Some(end) = line.get("end") {
        return Some(format!("{} shown, {} not shown", end["shown"], end["not_shown"]));
    }
    let place = match line.get("position") {
        Some(position) => words::position(position),
        None => format!("#{}", word(&line["id"])),
    };
    let mut text = format!("{place}  {}", what(line));
    text.extend(words::payload(line));
    Some(text)
}

fn what(line: &Value) -> String {
    match (line["at"].as_str(), line["event"].as_str()) {
        (Some("source"), _) => {
            let defect = words::defect(line).map(|defect| format!("  {defect}")).unwrap_or_default();
            format!("arrived  {}{defect}", head(&line["message"]))
        }
        (Some("plugin"), _) => words::answer(line),
        (_, Some("sent")) => format!("sent to {}  {}", word(&line["to"]), head(&line["message"])),
        (_, Some(event @ ("stored" | "dead_letter_stored"))) => {
            format!("{event} in partition {} at {}", line["partition"], line["offset"])
        }
        (_, Some(_)) => {
            let detail = line["detail"].as_str().map(|detail| format!("  {}", words::sentence(detail)));
            format!("{}{}{}", word(&line["event"]), words::reason(line), detail.unwrap_or_default())
        }
        _ => String::new(),
    }
}

fn head(head: &Value) -> String {
    let time = head["timestamp_ms"].as_i64().map(|ms| format!(", at {ms} ms")).unwrap_or_default();
    format!("{}  {}{time}  {}", word(&head["channel"]), words::sizes(head), words::headers(head))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_line_has_words() {
        let position = json!({ "channel": "t", "partition": 0, "offset": 7 });
        let message =
            json!({ "channel": "t", "key_bytes": 1, "value_bytes": null, "headers": ["h"], "timestamp_ms": 5 });
        let shown = |line: Value| text(&line).unwrap();
        let line = json!({ "at": "source", "id": "7", "position": position, "message": message });
        assert_eq!(shown(line), "t-0@7  arrived  t  key 1 B, value null, at 5 ms  [h]");
        let line = json!({ "at": "plugin", "plugin": "p", "position": position, "verdict": "reject", "code": "c", "time_us": 3, "fuel": 4 });
        assert_eq!(shown(line), "t-0@7  p: reject c  3 us, 4 fuel");
        let line = json!({ "at": "sink", "id": "7", "event": "stored", "partition": 2, "offset": 9 });
        assert_eq!(shown(line), "#7  stored in partition 2 at 9");
        let line = json!({ "at": "sink", "id": "7", "position": position, "event": "dead_letter", "stage": "plugin", "plugin": "p", "kind": "rejected", "code": "c" });
        assert_eq!(shown(line), "t-0@7  dead_letter: rejected, c (by p)");
    }

    #[test]
    fn what_is_typed_cannot_become_another_request_or_another_name() {
        for wrong in ["", "my plugin", "a\r\nX: y", "a&payload=true", "plugin/", "a/b", "A", "%2e"] {
            assert!(place(wrong).is_err_and(|why| why.contains("allowed")) && name(wrong).is_err(), "{wrong}");
        }
        for right in ["source", "sink", "my-plugin-2", "plugin/source"] {
            assert_eq!(place(right).as_deref(), Ok(right));
        }
    }
}
