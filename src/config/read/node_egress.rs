//! The node's `egress`: whom plugins' lookups ask, whom their TLS trusts, what the operator denies and consents to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portcullis_policy::{Class, IpNet, classify};

use super::Context;
use super::fields::Fields;
use super::levels::denies;
use super::values::{boolean, duration, list, path, shown, text};
use crate::yaml::{Kind, Node};
use crate::{Code, Dns, Located, NodeEgress, NodeTls, Roots, Setting};

const DNS_PORT: u16 = 53;
const SERVERS_MAX: usize = 8;

pub(super) fn egress(cx: &mut Context<'_>, node: &Node) -> Option<NodeEgress> {
    let mut egress = NodeEgress::default();
    let mut fields = Fields::of(cx, node, "`egress` of the node")?;
    fields.optional(cx, "dns", |cx, node| dns(cx, node, &mut egress.dns));
    fields.optional(cx, "tls", |cx, node| tls(cx, node, &mut egress.tls));
    egress.deny = fields.optional(cx, "deny", denies).unwrap_or_default();
    let consent = fields.optional(cx, "consent", |cx, node| list(cx, node, false, consent));
    egress.consent = consent.unwrap_or_default();
    egress.observe = Setting::or(fields.optional(cx, "observe", boolean), false);
    fields.finish(cx);
    Some(egress)
}

fn dns(cx: &mut Context<'_>, node: &Node, dns: &mut Dns) -> Option<()> {
    let mut fields = Fields::of(cx, node, "`dns`")?;
    dns.servers = fields.optional(cx, "servers", servers).unwrap_or_default();
    let timeouts = Duration::from_millis(50)..=Duration::from_secs(60);
    let timeout = fields.optional(cx, "timeout", |cx, node| duration(cx, node, timeouts));
    dns.timeout = Setting::or(timeout, dns.timeout.value);
    fields.finish(cx);
    Some(())
}

fn servers(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Located<SocketAddr>>> {
    let servers = list(cx, node, true, server)?;
    if let Some(beyond) = servers.get(SERVERS_MAX) {
        let message = format!("more than {SERVERS_MAX} name servers");
        cx.say(&beyond.at, Code::ValueInvalid, message, "remove the rest: a lookup ends at the timeout long before");
        return None;
    }
    Some(servers)
}

/// An address with or without a port.
fn server(cx: &mut Context<'_>, node: &Node) -> Option<Located<SocketAddr>> {
    let typed = text(cx, node)?;
    let alone = || typed.value.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    match typed.value.parse::<SocketAddr>().ok().or_else(alone).filter(|server| server.port() != 0) {
        Some(server) => Some(Located::new(server, typed.at)),
        None => {
            let message = format!("`{}` is no address of a name server", shown(node));
            cx.say(
                &typed.at,
                Code::ValueInvalid,
                message,
                "allowed: IP or IP:PORT, such as 10.0.0.2:53 or [fd00::2]:53",
            );
            None
        }
    }
}

fn tls(cx: &mut Context<'_>, node: &Node, tls: &mut NodeTls) -> Option<()> {
    let mut fields = Fields::of(cx, node, "`tls`")?;
    let roots = fields.optional(cx, "roots", |cx, node| match &node.kind {
        Kind::Scalar(scalar) if scalar.text == "system" => Some(Located::new(Roots::System, node.at.clone())),
        _ => path(cx, node).map(|path| path.map(Roots::File)),
    });
    tls.roots = Setting::or(roots, Roots::System);
    fields.finish(cx);
    Some(())
}

/// A block within one of the ranges that need more than a rule, so that a consent never covers what nobody thought of.
fn consent(cx: &mut Context<'_>, node: &Node) -> Option<Located<IpNet>> {
    let typed = text(cx, node)?;
    let network = typed.value.parse::<IpNet>().ok();
    let network = network.or_else(|| typed.value.parse::<IpAddr>().ok().map(IpNet::from));
    let refused = match network {
        None => "is no address and no CIDR",
        Some(network) if network.trunc() != network => "has host bits that are not 0",
        Some(network) if !needs_consent(network) => "does not lie within loopback, link-local or a metadata address",
        Some(network) => return Some(Located::new(network, typed.at)),
    };
    let help = "allowed: parts of 127.0.0.0/8, ::1, 169.254.0.0/16, fe80::/10 and metadata addresses; \
                every other range needs a rule that names it and no consent";
    cx.say(&typed.at, Code::ValueInvalid, format!("`{}` {refused}", shown(node)), help);
    None
}

fn needs_consent(network: IpNet) -> bool {
    // The ranges are no wider than these, so that a block with both ends in one of them lies in it.
    let widest = if network.addr().is_ipv4() { 8 } else { 10 };
    let class = classify(network.network());
    matches!(class, Class::Special(special) if special.needs_consent())
        && network.prefix_len() >= widest
        && class == classify(network.broadcast())
}
