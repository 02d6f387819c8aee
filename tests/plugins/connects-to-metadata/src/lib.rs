//! Looks for the credentials of the machine where clouds have them: each of `to`, by default the addresses and spellings of the metadata
//! services, by TCP and by HTTP. Rejects with the code of the last refusal, the detail has all of them; passes where one was reached.
//! A value that begins with `ok` passes.

use portcullis_plugin::net::TcpStream;
use portcullis_plugin::{Message, Verdict, http, validator};

portcullis_plugin::manifest! { validator, egress: "asks the metadata service" }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "services")]
    to: Vec<String>,
}

fn services() -> Vec<String> {
    let services = [
        "169.254.169.254",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "100.100.100.200",
        "metadata.google.internal",
    ];
    services.map(str::to_owned).to_vec()
}

#[validator]
fn connects_to_metadata(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let (mut last, mut all) = ("none", Vec::new());
    for host in &config.to {
        let authority = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let tcp = TcpStream::connect(host, 80).map(drop);
        let http = http::get(&format!("http://{authority}/latest/meta-data/")).map(drop);
        for attempt in [tcp, http] {
            let Err(error) = attempt else { return Verdict::pass() };
            last = error.code();
            all.push(format!("{host} {}", error.code()));
        }
    }
    Verdict::reject(last, all.join(", "))
}
