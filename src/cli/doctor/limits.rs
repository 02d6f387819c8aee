//! What the system gives this process, against what the configuration lets it take.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_config::{Node, Pipeline, format_size};
use rustix::process::{Resource, getrlimit};

use super::finding::Report;
use crate::cli::words::some;

/// Files, pipes, listeners and threads' own descriptors of a process that does nothing yet.
const OTHER_FILES: u64 = 64;
/// librdkafka has a thread for each broker of each client, with a socket and a pipe to wake it, and pipes of its queues.
const FILES_A_CONNECTION: u64 = 4;
const CGROUPS: &str = "/sys/fs/cgroup";

/// `connections` is how many sockets the connectors have to brokers.
pub(super) fn check(node: &Node, pipelines: &[Pipeline], connections: usize, report: &mut Report) {
    open_files(node, pipelines, connections as u64, report);
    memory(node, pipelines, report);
    lanes(pipelines, report);
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn open_files(node: &Node, pipelines: &[Pipeline], connections: u64, report: &mut Report) {
    let of_plugins: u64 = pipelines
        .iter()
        .flat_map(|pipeline| pipeline.plugins.iter().map(move |plugin| (pipeline, plugin)))
        .filter(|(_, plugin)| plugin.grants.egress.is_some())
        .map(|(pipeline, plugin)| u64::from(node.limits_of(pipeline, plugin).connections.value))
        .sum();
    let of_plugins = node.limits.connections.as_ref().map_or(of_plugins, |max| of_plugins.min(u64::from(max.value)));
    let of_connectors = connections.saturating_mul(FILES_A_CONNECTION);
    let needed = of_plugins + of_connectors + OTHER_FILES;
    let sum =
        format!("{of_plugins} sockets of plugins + {of_connectors} of connectors + {OTHER_FILES} others = {needed}");
    let limit = getrlimit(Resource::Nofile).current;
    let shown = limit.map_or("without bound".to_owned(), |limit| limit.to_string());
    if limit.is_some_and(|limit| limit < needed) {
        let advice = "raise it (`ulimit -n`, `LimitNOFILE=`), or lower `limits: { connections: ... }`";
        report.fail("limit.files", "open files", format!("the limit is {shown}, and {sum} may be needed"), advice);
    } else {
        report.ok("limit.files", "open files", format!("the limit is {shown}; {sum}"));
    }
}

/// Bytes that the budgets allow the memories of plugins, and the queues. Each source has lanes and a queue of its own.
fn allowed_bytes(node: &Node, pipelines: &[Pipeline]) -> (u64, u64) {
    let instances = |pipeline: &Pipeline| {
        let lanes = pipeline.lane_count().saturating_mul(pipeline.sources.len()) as u64;
        let of = |plugin: &portcullis_config::Plugin| {
            let limits = node.limits_of(pipeline, plugin);
            let waiting = if plugin.grants.egress.is_some() { limits.concurrency.value.max(1) } else { 1 };
            limits.memory_bytes.value.saturating_mul(u64::from(waiting)).saturating_mul(lanes)
        };
        pipeline.plugins.iter().map(of).fold(0, u64::saturating_add)
    };
    let of_plugins = pipelines.iter().map(instances).fold(0, u64::saturating_add);
    let of_plugins = node.limits.memory_bytes.as_ref().map_or(of_plugins, |max| of_plugins.min(max.value));
    let queues =
        |pipeline: &Pipeline| node.queue_of(pipeline).bytes.value.saturating_mul(pipeline.sources.len() as u64);
    let of_queues = pipelines.iter().map(queues).fold(0, u64::saturating_add);
    (of_plugins, node.limits.queue.bytes.as_ref().map_or(of_queues, |max| of_queues.min(max.value)))
}

fn memory(node: &Node, pipelines: &[Pipeline], report: &mut Report) {
    let what = "memory";
    let (of_plugins, of_queues) = allowed_bytes(node, pipelines);
    let sum = of_plugins.saturating_add(of_queues);
    let said = format!("plugins {} + queues {} = {}", shown(of_plugins), shown(of_queues), shown(sum));
    let Some((limit, by)) = memory_limit() else {
        return report.skip("limit.memory", what, format!("this machine does not say how much there is; {said}"));
    };
    let above = node.limits.memory_bytes.as_ref().filter(|max| max.value > limit);
    if let Some(max) = above {
        let found = format!("`limits.memory` of the node is {} and {by} gives {}", shown(max.value), shown(limit));
        let advice = "lower `limits: { memory: ... }`: the system ends the process before that bound is reached";
        report.fail("limit.memory", what, found, advice);
    } else if sum > limit {
        let found = format!("{by} gives {}, and the budgets allow {said}", shown(limit));
        let advice = "set `limits: { memory: ... }` in the node's file, well below what there is, or lower lanes and plugins' memory";
        report.warn("limit.memory", what, found, advice);
    } else {
        report.ok(
            "limit.memory",
            what,
            format!("{by} gives {}; the budgets allow {said} (clients of brokers beside it)", shown(limit)),
        );
    }
}

/// In whole MiB: the rest is read by nobody.
fn shown(bytes: u64) -> String {
    format_size(bytes >> 20 << 20)
}

fn lanes(pipelines: &[Pipeline], report: &mut Report) {
    let cores = cores();
    let most = pipelines.iter().max_by_key(|pipeline| pipeline.lane_count());
    let Some((most, lanes)) = most.map(|pipeline| (pipeline, pipeline.lane_count())) else { return };
    let each = if most.sources.len() > 1 { " for each of its sources" } else { "" };
    let found = format!("{}; pipeline {} has {}{each}", some(cores, "core"), most.name.value, some(lanes, "lane"));
    if lanes > cores {
        let advice = "lower `lanes`: more than cores only adds memory, unless its plugins wait for the network";
        report.warn("limit.cores", "cores", found, advice);
    } else {
        report.ok("limit.cores", "cores", found);
    }
}

/// The least of what the control groups of this process and the machine give, and which of them it is.
fn memory_limit() -> Option<(u64, &'static str)> {
    let machine =
        fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)).map(|bytes| (bytes, "the machine"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_files(&groups).into_iter().filter_map(|file| limit(&fs::read_to_string(file).ok()?)).min();
    group.map(|bytes| (bytes, "the control group")).into_iter().chain(machine).min()
}

/// In version 2 each group above bounds those below; in version 1 one file has the bound.
fn group_files(groups: &str) -> Vec<PathBuf> {
    let mut files =
        vec![Path::new(CGROUPS).join("memory/memory.limit_in_bytes"), Path::new(CGROUPS).join("memory.max")];
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kind), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = Path::new(path.trim_start_matches('/'));
        match kind {
            "" => files.extend(path.ancestors().map(|path| Path::new(CGROUPS).join(path).join("memory.max"))),
            "memory" => files.push(Path::new(CGROUPS).join("memory").join(path).join("memory.limit_in_bytes")),
            _ => {}
        }
    }
    files
}

/// `max`, and version 1's largest number, are no bound.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use portcullis_config::{Flags, NoEnvironment, load_node, load_pipeline};

    use super::*;

    #[test]
    fn each_source_has_lanes_and_a_queue_of_its_own_and_they_are_counted() {
        let node = load_node(None, &NoEnvironment, &Flags::new()).unwrap();
        let allowed = |sources: &str| {
            let text = format!(
                "pipeline: p\nlanes: 2\nqueue: {{ bytes: 3MiB }}\n{sources}\nsink: {{ file: {{ path: out }} }}\n\
                 plugins: [{{ name: x, component: x.wasm, limits: {{ memory: 16MiB }} }}]\n"
            );
            allowed_bytes(&node, &[load_pipeline(Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap()])
        };
        assert_eq!(allowed("source: { file: { path: a } }"), ((2 * 16) << 20, 3 << 20));
        let three = "source: [{ file: { path: a } }, { file: { path: b } }, { file: { path: c } }]";
        assert_eq!(allowed(three), ((3 * 2 * 16) << 20, (3 * 3) << 20));
    }

    #[test]
    fn a_bound_is_read_in_both_forms_and_no_bound_is_none() {
        assert_eq!(limit("268435456\n"), Some(268_435_456));
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn every_group_above_is_looked_at() {
        let files = group_files("0::/a/b\n");
        for path in ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"] {
            assert!(files.contains(&PathBuf::from(path)), "{files:?}");
        }
        let files = group_files("5:memory:/x\n");
        assert!(files.contains(&PathBuf::from("/sys/fs/cgroup/memory/x/memory.limit_in_bytes")), "{files:?}");
    }
}
