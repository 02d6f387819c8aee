//! A plan in words: what each name resolved to, what is promised, where each budget comes from, and what is weaker than it
//! could be. It holds no secret: values that may be one are not read.

use portcullis_config::{
    AuditTarget, Cluster, Disposition, EgressMode, KafkaConnection, Located, Location, NatsCluster, NatsConnection,
    Node, Order, Plugin, Retry, Setting, Sink, Source, Tenant, format_duration,
};
use serde::Serialize;

mod budgets;

use self::budgets::DEFAULT;
pub(in crate::plan) use self::budgets::of_plugin;
use super::locked::digest_text;
use super::remarks;
use super::{PipelinePlan, Plan, Table};
use crate::connectors::{SinkPlan, SourcePlan};
use crate::plugin::Wish;

/// Everything that one process will run, for people and programs.
#[derive(Debug, Serialize)]
pub struct Description {
    /// The node.
    pub node: NodeDescription,
    /// In the order of the files.
    pub pipelines: Vec<PipelineDescription>,
}

/// What holds for all pipelines.
#[derive(Debug, Serialize)]
pub struct NodeDescription {
    /// The node's file; none where everything is a default.
    pub file: Option<String>,
    /// `development` or `production`.
    pub mode: &'static str,
    /// Where audit events go; none where the command line's default file takes them.
    pub audit: Option<String>,
    /// Where `/metrics`, `/live` and `/ready` are served.
    pub admin: String,
    /// What the plugins of all pipelines may use together.
    pub limits: Vec<BudgetDescription>,
    /// What those of each tenant may use together.
    pub tenants: Vec<TenantDescription>,
}

/// A tenant of the node's file.
#[derive(Debug, Serialize)]
pub struct TenantDescription {
    /// Its name.
    pub tenant: String,
    /// `file:line:col`.
    pub at: String,
    /// What its plugins may use together.
    pub limits: Vec<BudgetDescription>,
}

/// One pipeline.
#[derive(Debug, Serialize)]
pub struct PipelineDescription {
    /// Its name.
    pub pipeline: String,
    /// Its file.
    pub file: String,
    /// Its tenant.
    pub tenant: Option<String>,
    /// `at least once` and so on.
    pub guarantee: String,
    /// What of source and sink makes it so.
    pub why: &'static str,
    /// Which messages keep their order.
    pub order: &'static str,
    /// Where from.
    pub sources: Vec<End>,
    /// The chain.
    pub plugins: Vec<PluginDescription>,
    /// Where to.
    pub sink: End,
    /// Where messages go that do not pass.
    pub dead_letter: Option<End>,
    /// Bounds of the pipeline itself.
    pub budgets: Vec<BudgetDescription>,
    /// What is not as strong as it could be, and how it would be.
    pub remarks: Vec<String>,
}

/// A source or a sink.
#[derive(Debug, Serialize)]
pub struct End {
    /// `kafka`, `file` and so on.
    pub connector: &'static str,
    /// Topics, a file, a template.
    pub name: String,
    /// What else it resolved to, such as the cluster and the group.
    pub settings: Vec<(&'static str, String)>,
    /// What the connector may hold, and how long it waits.
    pub budgets: Vec<BudgetDescription>,
    /// `file:line:col`.
    pub at: String,
}

/// One plugin of a chain.
#[derive(Debug, Serialize)]
pub struct PluginDescription {
    /// Its name in the pipeline.
    pub name: String,
    /// Its file.
    pub component: String,
    /// `sha256:...`
    pub digest: String,
    /// `validation` or `enrichment`.
    pub world: String,
    /// Name and version that its manifest claims.
    pub manifest: Option<String>,
    /// What `configure` gets; none where nothing was typed.
    pub config: Option<ConfigDescription>,
    /// What it imports beside the message in work; `portcullis inspect` has every function.
    pub imports: Vec<String>,
    /// What it was granted, with the place.
    pub grants: Vec<GrantDescription>,
    /// What becomes of messages that do not pass.
    pub dispositions: Vec<(&'static str, String)>,
    /// `lane`, `batch` or `message`.
    pub instance: &'static str,
    /// With their origin.
    pub budgets: Vec<BudgetDescription>,
}

/// The configuration of a plugin. Its values are not shown: variables may have put secrets into them.
#[derive(Debug, Serialize)]
pub struct ConfigDescription {
    /// `sha256:...` of what was typed, with the files and without what variables hold, as a lock has it.
    pub digest: String,
    /// The files that were inlined, as they were found.
    pub files: Vec<String>,
    /// `file:line:col`.
    pub at: String,
}

/// One grant.
#[derive(Debug, Serialize)]
pub struct GrantDescription {
    /// The capability.
    pub capability: &'static str,
    /// As it is typed; one text for each egress rule.
    pub values: Vec<String>,
    /// `file:line:col`.
    pub at: String,
}

/// One budget.
#[derive(Debug, Serialize)]
pub struct BudgetDescription {
    /// The key.
    pub name: &'static str,
    /// As it is typed; none where there is no bound.
    pub value: Option<String>,
    /// `default`, or the place where it was typed: the pipeline's file, or the node's for the node and its tenants.
    pub origin: String,
}

impl Plan {
    /// The plan in words.
    pub fn describe(&self) -> Description {
        let pipelines = self.pipelines.iter().map(|pipeline| self.pipeline(pipeline)).collect();
        Description { node: node(&self.node), pipelines }
    }

    fn pipeline(&self, plan: &PipelinePlan) -> PipelineDescription {
        let config = &plan.config;
        let tables = self.tables.iter().filter(|table| table.pipeline == config.name.value);
        let of = |plugin: &Plugin| tables.clone().find(|table| table.plugin == plugin.name.value);
        PipelineDescription {
            pipeline: config.name.value.clone(),
            file: config.file.display().to_string(),
            tenant: config.tenant.as_ref().map(|tenant| tenant.value.clone()),
            guarantee: plan.promise.guarantee.to_string(),
            why: plan.promise.why,
            order: match config.order.value {
                Order::Key => "of one partition and key",
                Order::Partition => "of one partition",
                Order::None => "none",
            },
            sources: config
                .sources
                .iter()
                .zip(&plan.sources)
                .map(|(from, plan)| source(&self.node, &from.value, &from.at, plan))
                .collect(),
            plugins: config
                .plugins
                .iter()
                .filter_map(|plugin| of(plugin).map(|table| described(plugin, table)))
                .collect(),
            sink: sink(&self.node, &config.sink.value, &config.sink.at, &plan.sink),
            dead_letter: config
                .dead_letter
                .as_ref()
                .zip(plan.dead_letter.as_ref())
                .map(|(typed, plan)| sink(&self.node, &typed.value, &typed.at, plan)),
            budgets: budgets::of_pipeline(config),
            remarks: remarks::of(self, plan),
        }
    }
}

fn node(node: &Node) -> NodeDescription {
    NodeDescription {
        file: node.file.as_ref().map(|file| file.display().to_string()),
        mode: match node.mode.value {
            portcullis_config::Mode::Development => "development",
            portcullis_config::Mode::Production => "production",
        },
        audit: node.audit.target.as_ref().map(|target| match &target.value {
            AuditTarget::Topic(audit) => format!("topic {}", audit.topic.value),
            AuditTarget::File(file) => file.display().to_string(),
        }),
        admin: node.admin.listen.value.to_string(),
        limits: budgets::of_level(&node.limits),
        tenants: node.tenants.iter().map(|(name, limits)| tenant(name, limits)).collect(),
    }
}

fn tenant(name: &str, tenant: &Tenant) -> TenantDescription {
    let mut limits = budgets::of_level(&tenant.limits);
    limits.push(budgets::share(&tenant.limits));
    TenantDescription { tenant: name.to_owned(), at: tenant.at.to_string(), limits }
}

fn described(plugin: &Plugin, table: &Table) -> PluginDescription {
    let examined = table.examined.as_ref();
    let way = |disposition: &Setting<Disposition>| {
        let word = match disposition.value {
            Disposition::DeadLetter => "dead_letter",
            Disposition::Drop => "drop",
            Disposition::Stop => "stop",
        };
        format!("{word} ({})", origin(disposition.at.as_ref()))
    };
    PluginDescription {
        name: plugin.name.value.clone(),
        component: table.component.clone(),
        digest: table.digest.clone().unwrap_or_default(),
        world: examined.map(|examined| examined.world.clone()).unwrap_or_default(),
        manifest: examined
            .and_then(|examined| examined.claimed.as_ref())
            .map(|claimed| format!("{} {}", claimed.manifest.name, claimed.manifest.version)),
        config: plugin.config.as_ref().map(|config| ConfigDescription {
            digest: digest_text(config.to_typed_json().as_bytes()),
            files: config.files().iter().map(|file| file.display().to_string()).collect(),
            at: config.at.to_string(),
        }),
        imports: table
            .lines
            .iter()
            .filter(|line| line.capability.is_some())
            .filter_map(|line| line.import.as_ref().map(|import| (import, line)))
            .map(|(import, line)| format!("{import}: {}", functions(&line.functions)))
            .collect(),
        grants: grants(plugin),
        dispositions: vec![
            ("reject", way(&plugin.on.reject)),
            ("fault", way(&plugin.on.fault)),
            ("drop", {
                let word = if plugin.on.may_drop.value { "allowed" } else { "a fault" };
                format!("{word} ({})", origin(plugin.on.may_drop.at.as_ref()))
            }),
            ("retry", retry(&plugin.on.retry)),
        ],
        instance: plugin.instance.value.as_str(),
        budgets: of_plugin(&plugin.limits, plugin.grants.egress.is_some()),
    }
}

fn origin(at: Option<&Location>) -> String {
    at.map_or_else(|| DEFAULT.to_owned(), Location::to_string)
}

fn retry(retry: &Retry) -> String {
    let (min, max) = (format_duration(retry.backoff_min.value), format_duration(retry.backoff_max.value));
    let (attempts, backoff) = (origin(retry.attempts.at.as_ref()), origin(retry.backoff_min.at.as_ref()));
    format!("{} attempts ({attempts}), {min}..{max} ({backoff})", retry.attempts.value)
}

fn functions(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names.len() {
        0..=SHOWN => names.join(", "),
        count => format!("{count} functions"),
    }
}

fn grants(plugin: &Plugin) -> Vec<GrantDescription> {
    let of = |wish: Wish| {
        let grant = super::Grant::of(&plugin.grants, wish)?;
        let mut values = vec![grant.text.clone()];
        if let (Wish::Egress, Some(egress)) = (wish, &plugin.grants.egress) {
            values = egress.rules.iter().map(|rule| rule.rule.canonical()).collect();
            if egress.mode.value == EgressMode::Observe {
                values.push("egress_mode: observe".to_owned());
            }
        }
        Some(GrantDescription { capability: wish.as_str(), values, at: grant.at.to_string() })
    };
    Wish::ALL.into_iter().filter_map(of).collect()
}

fn source(node: &Node, source: &Source, at: &Location, plan: &SourcePlan) -> End {
    let (name, settings) = match source {
        Source::Kafka(kafka) => {
            let settings = vec![("cluster", cluster(node, &kafka.connection)), ("group", kafka.group.value.clone())];
            (texts(&kafka.topics), settings)
        }
        Source::JetStream(stream) => {
            let mut settings =
                vec![("servers", servers(node, &stream.connection)), ("consumer", stream.consumer.value.clone())];
            settings.extend(stream.filter_subjects.as_deref().map(|subjects| ("filter_subjects", texts(subjects))));
            (stream.stream.value.clone(), settings)
        }
        Source::Nats(nats) => {
            let mut settings = vec![("servers", servers(node, &nats.connection))];
            settings.extend(nats.queue_group.as_ref().map(|group| ("queue_group", group.value.clone())));
            (texts(&nats.subjects), settings)
        }
        Source::File(file) => {
            let position = file.position.as_ref().map(|position| ("position", position.display().to_string()));
            (file.path.display().to_string(), position.into_iter().collect())
        }
        Source::Stdio(_) => ("standard input".to_owned(), Vec::new()),
        Source::Generator(generator) => (generator.channel.value.clone(), Vec::new()),
    };
    let budgets = budgets::of_source(source, plan);
    End { connector: source.connector().as_str(), name, settings, budgets, at: at.to_string() }
}

fn sink(node: &Node, typed: &Sink, at: &Location, plan: &SinkPlan) -> End {
    let (name, settings) = match typed {
        Sink::Kafka(kafka) => {
            let mut settings = vec![("cluster", cluster(node, &kafka.connection))];
            settings.extend(allow(&kafka.allow));
            (kafka.topic.value.to_string(), settings)
        }
        Sink::JetStream(stream) => {
            let mut settings = vec![("servers", servers(node, &stream.connection))];
            settings.extend(stream.stream.as_ref().map(|stream| ("stream", stream.value.clone())));
            settings.extend(allow(&stream.allow));
            (stream.subject.value.to_string(), settings)
        }
        Sink::Nats(nats) => {
            let mut settings = vec![("servers", servers(node, &nats.connection))];
            settings.extend(allow(&nats.allow));
            (nats.subject.value.to_string(), settings)
        }
        _ => (plan.name(), Vec::new()),
    };
    let budgets = budgets::of_sink(typed, plan);
    End { connector: typed.connector().as_str(), name, settings, budgets, at: at.to_string() }
}

fn allow(patterns: &[Located<String>]) -> Option<(&'static str, String)> {
    (!patterns.is_empty()).then(|| ("allow", texts(patterns)))
}

fn texts(all: &[Located<String>]) -> String {
    all.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(", ")
}

fn servers(node: &Node, connection: &NatsConnection) -> String {
    match &connection.cluster {
        NatsCluster::Servers(servers) => texts(servers),
        // What cannot be resolved is refused before it is described.
        NatsCluster::Profile(profile) => {
            let servers = node.resolve_nats(connection).map(|resolved| texts(resolved.servers()));
            of_profile(node, &profile.value, &servers.unwrap_or_default())
        }
    }
}

fn cluster(node: &Node, connection: &KafkaConnection) -> String {
    match &connection.cluster {
        Cluster::Brokers(brokers) => brokers.value.clone(),
        Cluster::Profile(profile) => match node.resolve(connection).map(|resolved| resolved.cluster) {
            Ok(Cluster::Brokers(brokers)) => of_profile(node, &profile.value, &brokers.value),
            _ => of_profile(node, &profile.value, ""),
        },
    }
}

fn of_profile(node: &Node, profile: &str, servers: &str) -> String {
    let at = node.profiles.get(profile).map(|profile| format!(" ({})", profile.at)).unwrap_or_default();
    format!("{servers} by profile {profile}{at}")
}
