//! One vector in a namespace that is its own: servers, watcher, bridge, verdict. Everything here ends with the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dns::{self, Names};
use crate::folder::{self, Setting};
use crate::judge::{self, DECOYS, Seen, Verdict};
use crate::packets::Watcher;
use crate::servers::{self, Manner, Web};
use crate::tls::Authority;
use crate::vector::{Config, Run, Vector};
use crate::{bridge, namespace};

/// What the runner tells a worker, as one line; the pipe stays open while the runner lives.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    /// The line of the file.
    pub(crate) vector: String,
    pub(crate) binary: PathBuf,
    pub(crate) probe: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) cache: PathBuf,
    /// Seconds that the bridge has.
    pub(crate) limit: u64,
}

const JOB_MAX: u64 = 16 << 20;
/// Of these the first whose text no vector's line holds is the name server's.
const NAME_SERVERS: [&str; 3] = ["192.0.2.53", "198.51.100.53", "203.0.113.53"];

/// Takes the job from the standard input and prints the verdict.
///
/// # Errors
/// When there is no job, or when the namespace cannot be made ready.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    input.by_ref().take(JOB_MAX).read_line(&mut line)?;
    let job: Job = serde_json::from_str(&line).context("no job on the standard input")?;
    std::thread::Builder::new().name("lifeline".into()).spawn(move || {
        // The end of the pipe is the end of the runner, whatever ended it.
        drop(std::io::copy(&mut input, &mut std::io::sink()));
        bridge::kill_running();
        std::process::exit(1);
    })?;
    let vector: Vector = serde_json::from_str(&job.vector).context("not a vector")?;
    let verdict = attack(&job, &vector).unwrap_or_else(|error| Verdict::failed(&vector.id, format!("{error:#}")));
    let mut line = serde_json::to_vec(&verdict)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)?;
    Ok(())
}

fn attack(job: &Job, vector: &Vector) -> anyhow::Result<Verdict> {
    let has_ipv6 = namespace::prepare()?;
    let watcher = Watcher::start()?;
    match (&vector.run, &vector.config) {
        (Some(run), None) => {
            let world = World::start(job, run, watcher, has_ipv6)?;
            let setting = Setting {
                probe: &job.probe,
                egress: &run.egress,
                limits: &run.limits,
                operator_deny: &run.operator_deny,
                name_server: world.name_server,
                roots: &world.roots,
            };
            folder::write(&job.folder, &setting, &run.ops)?;
            let arguments = ["run", folder::PIPELINE, "--node", folder::NODE];
            let seen = world.see(job, &arguments)?;
            Ok(judge::run(&vector.id, run, &seen))
        }
        (None, Some(config)) => {
            let world = World::start(job, &nothing(), watcher, has_ipv6)?;
            let Config { egress, operator_deny, limits, .. } = config;
            let (name_server, roots) = (world.name_server, world.roots.as_str());
            let setting = Setting { probe: &job.probe, egress, limits, operator_deny, name_server, roots };
            let lines = folder::write(&job.folder, &setting, &[])?;
            let seen = world.see(job, &["check", folder::PIPELINE, "--node", folder::NODE, "--format", "json"])?;
            Ok(judge::config(&vector.id, config, lines, &seen))
        }
        _ => bail!("the vector has not exactly one of `run` and `config`"),
    }
}

/// What a refused configuration may reach.
fn nothing() -> Run {
    Run {
        egress: Vec::new(),
        operator_deny: Vec::new(),
        limits: Map::<String, Value>::new(),
        dns: std::collections::BTreeMap::new(),
        listen: Vec::new(),
        tls: None,
        ops: Vec::new(),
        results: Vec::new(),
        packets: None,
        queries: None,
        queries_subset: None,
        sni: None,
        events: Vec::new(),
        canary: Vec::new(),
    }
}

/// The servers of a vector, and who watches.
struct World {
    watcher: Watcher,
    names: Arc<Names>,
    web: Arc<Web>,
    name_server: SocketAddr,
    roots: String,
}

impl World {
    fn start(job: &Job, run: &Run, watcher: Watcher, has_ipv6: bool) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let roots = authority.pem();
        let web = Web::new(authority, run.tls);
        let free = NAME_SERVERS.iter().find(|address| !job.vector.contains(*address));
        let address: IpAddr = free.context("the vector uses every address that the name server could have")?.parse()?;
        let name_server = SocketAddr::new(address, 53);
        let names = Names::new(&run.dns);
        dns::serve(&names, name_server).with_context(|| format!("the name server at {name_server}"))?;
        for address in &run.listen {
            servers::serve(*address, Manner::Mute).with_context(|| format!("a server at {address}"))?;
        }
        let ports = folder::web_ports(&run.egress);
        let packets = run.packets.iter().flatten().flat_map(|endpoint| {
            let ports: Vec<u16> = endpoint.port.map_or_else(|| ports.iter().copied().collect(), |port| vec![port]);
            ports.into_iter().map(|port| SocketAddr::new(endpoint.address, port))
        });
        let packets: std::collections::BTreeSet<SocketAddr> = packets.collect();
        for address in packets {
            if ports.contains(&address.port()) && !run.listen.contains(&address) {
                let manner = Manner::Web(Arc::clone(&web));
                servers::serve(address, manner).with_context(|| format!("a web server at {address}"))?;
            }
            servers::swallow(address).with_context(|| format!("a datagram socket at {address}"))?;
        }
        // Open for what gets there although it must not: then it also succeeds, and nobody can take it for luck. One that a
        // vector has taken for a server of its own stays that.
        for decoy in DECOYS {
            for port in [80, 443] {
                let manner = Manner::Web(Arc::clone(&web));
                let address = SocketAddr::new(decoy, port);
                match servers::serve(address, manner) {
                    Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                        return Err(error).with_context(|| format!("a decoy at {address}"));
                    }
                    _ => {}
                }
            }
        }
        if !has_ipv6 {
            eprintln!(
                "attack: this kernel has no IPv6; packets to its addresses cannot be seen because there are none"
            );
        }
        Ok(Self { watcher, names, web, name_server, roots })
    }

    fn see(&self, job: &Job, arguments: &[&str]) -> anyhow::Result<Seen> {
        let limit = Duration::from_secs(job.limit);
        let ended = bridge::run(&job.binary, &job.folder, &job.cache, arguments, limit)?;
        let left = folder::read(&job.folder)
            .with_context(|| format!("the bridge ended with {:?}: {}", ended.code, ended.stderr.trim()))?;
        Ok(Seen {
            ended,
            left,
            packets: self.watcher.seen(),
            queries: self.names.asked(),
            sni: self.web.names(),
            name_server: self.name_server,
        })
    }
}
