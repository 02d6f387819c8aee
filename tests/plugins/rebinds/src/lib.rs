//! Connects to `name` with each message and remembers the first address. When the name points elsewhere later, it connects there as well,
//! and to `inside` by the address alone. Rejects with the WASI code of the first refusal, the detail says of what. A value that begins
//! with `ok` passes.

use std::net::IpAddr;

use portcullis_plugin::net::{self, TcpStream};
use portcullis_plugin::{Message, Validator, Verdict, export_validator, parse_config};

portcullis_plugin::manifest! { validator, egress: "connects to a name" }

#[derive(serde::Deserialize)]
struct Config {
    name: String,
    port: u16,
    /// What the name is to become.
    inside: Option<IpAddr>,
}

struct Rebinds {
    config: Config,
    first: Option<IpAddr>,
}

export_validator!(Rebinds);

impl Validator for Rebinds {
    fn configure(json: &str) -> Result<Self, String> {
        Ok(Self { config: parse_config(json)?, first: None })
    }

    fn validate(&mut self, message: &Message) -> Verdict {
        if message.value().is_some_and(|value| value.starts_with(b"ok")) {
            return Verdict::pass();
        }
        self.connect().map_or_else(
            |(error, what)| Verdict::reject(error.code(), format!("{what}: {}", error.at())),
            |()| Verdict::pass(),
        )
    }
}

impl Rebinds {
    fn connect(&mut self) -> Result<(), (net::Error, &'static str)> {
        let addresses = net::lookup(&self.config.name).map_err(|error| (error, "the name"))?;
        let first = *self.first.get_or_insert(addresses.first().copied().unwrap_or(IpAddr::from([0; 4])));
        for address in addresses {
            let what = if address == first { "the first address" } else { "another address" };
            TcpStream::connect(&address.to_string(), self.config.port).map_err(|error| (error, what))?;
        }
        if let Some(inside) = self.config.inside {
            TcpStream::connect(&inside.to_string(), self.config.port).map_err(|error| (error, "the address alone"))?;
        }
        Ok(())
    }
}
