//! TLS: who is believed, and what is told of the rest.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

use super::server::{Server, text};
use super::*;
use crate::support::{NameServer, code, rule, zone};
use crate::tls::{RuleTls, roots_from_pem};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key in PEM.
fn issue(by: &Issuer, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn server_config((certificate, key): (String, String), clients: Option<&Issuer>) -> Arc<ServerConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(issuer) => {
            let roots = roots_from_pem(issuer.pem().as_bytes()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap(),
            )
        }
    };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A plugin that may reach `ok.test` on the server's port and trusts an issuer.
struct World {
    client: Client,
    bench: Bench,
    authority: String,
    _names: NameServer,
}

async fn world(server: &Server, roots: &Issuer) -> World {
    let names = NameServer::start([("ok.test", zone(&["127.0.0.1"]))]).await;
    let authority = format!("ok.test:{}", server.address.port());
    let allow = format!("https://{authority}");
    let rules = [RuleText { addresses: Some(vec!["127.0.0.0/8"]), ..rule(&allow) }];
    let (_, bench) = Client::asking(&rules, names.address, limits());
    let roots = roots_from_pem(roots.pem().as_bytes()).unwrap();
    let egress = with(&bench, |settings| settings.roots = roots);
    World { client: Client::of(&egress), bench, authority, _names: names }
}

fn https(authority: &str) -> Outgoing {
    let outgoing = get("127.0.0.1:443".parse().unwrap(), "/v1/x");
    Outgoing { scheme: "https".to_owned(), authority: authority.to_owned(), ..outgoing }
}

async fn refuses(config: Arc<ServerConfig>, roots: &Issuer, guest: &str, reason: &str) {
    let server = Server::tls(config, |_| text("never")).await;
    let world = world(&server, roots).await;
    assert_eq!(world.client.code(https(&world.authority)).await, guest, "{reason}");
    assert_eq!(world.bench.events().last().unwrap(), &format!("http.request {reason}"));
    assert!(server.requests().is_empty());
    world.client.no_connection_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_the_right_name_and_issuer_is_spoken_to_in_http_1() {
    let ca = issuer("ours");
    let server = Server::tls(server_config(issue(&ca, "ok.test", |_| ()), None), |_| text("ok")).await;
    let world = world(&server, &ca).await;
    for _ in 0..2 {
        let answer = world.client.send(https(&world.authority)).await.unwrap();
        assert_eq!(body(answer).await.unwrap(), "ok");
    }
    assert_eq!(server.accepted(), 1);
    let told = world.bench.full();
    let request = told.iter().find(|event| code(event) == "http.request").unwrap();
    assert_eq!(request["tls"]["version"], "1.3", "{request}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_name_is_refused() {
    let ca = issuer("ours");
    let config = server_config(issue(&ca, "other.test", |_| ()), None);
    refuses(config, &ca, "TLS-certificate-error", "tls.name_mismatch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_issuer_and_a_certificate_by_itself_are_refused() {
    let (ca, stranger) = (issuer("ours"), issuer("theirs"));
    refuses(server_config(issue(&stranger, "ok.test", |_| ()), None), &ca, "TLS-certificate-error", "tls.untrusted")
        .await;
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["ok.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = server_config((own.pem(), key.serialize_pem()), None);
    refuses(config, &ca, "TLS-certificate-error", "tls.untrusted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_whose_time_is_over_or_has_not_come_is_refused() {
    let ca = issuer("ours");
    let over = issue(&ca, "ok.test", |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    });
    refuses(server_config(over, None), &ca, "TLS-certificate-error", "tls.untrusted").await;
    let later = issue(&ca, "ok.test", |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2200, 1, 1), date_time_ymd(2201, 1, 1));
    });
    refuses(server_config(later, None), &ca, "TLS-certificate-error", "tls.untrusted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_server_and_one_that_says_no_are_told_apart() {
    let ca = issuer("ours");
    // A fatal alert: protocol_version; then handshake_failure; then something that is no TLS.
    for (bytes, guest, reason) in [
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], "TLS-protocol-error", "tls.version"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "TLS-alert-received", "net.failed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS-protocol-error", "net.failed"),
    ] {
        let server = Server::raw(bytes).await;
        let world = world(&server, &ca).await;
        assert_eq!(world.client.code(https(&world.authority)).await, guest);
        assert_eq!(world.bench.events().last().unwrap(), &format!("http.request {reason}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rules_own_roots_replace_the_others() {
    let (node, own) = (issuer("node"), issuer("own"));
    let server = Server::tls(server_config(issue(&own, "ok.test", |_| ()), None), |_| text("ok")).await;
    let world = world(&server, &node).await;
    assert_eq!(world.client.code(https(&world.authority)).await, "TLS-certificate-error");
    let roots = roots_from_pem(node.pem().as_bytes()).unwrap();
    let with_own = with(&world.bench, |settings| {
        let pem = own.pem();
        settings.rule_tls = vec![RuleTls::new(0, Some(pem.as_bytes()), None, &roots).unwrap()];
    });
    assert_eq!(body(Client::of(&with_own).send(https(&world.authority)).await.unwrap()).await.unwrap(), "ok");
    let by_node = Server::tls(server_config(issue(&node, "ok.test", |_| ()), None), |_| text("ok")).await;
    let authority = format!("ok.test:{}", by_node.address.port());
    let allow = format!("https://{authority}");
    let rules = [RuleText { addresses: Some(vec!["127.0.0.0/8"]), ..rule(&allow) }];
    let names = NameServer::start([("ok.test", zone(&["127.0.0.1"]))]).await;
    let (_, bench) = Client::asking(&rules, names.address, limits());
    let with_own = with(&bench, |settings| {
        settings.roots = Arc::clone(&roots);
        settings.rule_tls = vec![RuleTls::new(0, Some(own.pem().as_bytes()), None, &roots).unwrap()];
    });
    assert_eq!(Client::of(&with_own).code(https(&authority)).await, "TLS-certificate-error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_shown_by_the_plugin_that_has_it_and_by_no_other() {
    let (ca, clients) = (issuer("ours"), issuer("clients"));
    let config = server_config(issue(&ca, "ok.test", |_| ()), Some(&clients));
    let server = Server::tls(config, |_| text("ok")).await;
    let world = world(&server, &ca).await;
    let roots = roots_from_pem(ca.pem().as_bytes()).unwrap();
    let (certificate, key) = issue(&clients, "plugin-a", |_| ());
    let own = with(&world.bench, |settings| {
        let pair = Some((certificate.as_bytes(), key.as_bytes()));
        settings.roots = Arc::clone(&roots);
        settings.rule_tls = vec![RuleTls::new(0, None, pair, &roots).unwrap()];
    });
    for _ in 0..2 {
        assert_eq!(body(Client::of(&own).send(https(&world.authority)).await.unwrap()).await.unwrap(), "ok");
        // TLS 1.3: the server's alert comes after the client's side of the handshake is done.
        let code = world.client.code(https(&world.authority)).await;
        assert!(["TLS-alert-received", "connection-terminated"].contains(&code), "{code}");
    }
    assert_eq!(server.requests().len(), 2);
    assert!(!format!("{:?}", world.bench.full()).contains("plugin-a"));
}

#[test]
fn files_that_do_not_hold_what_they_should_are_refused() {
    let (ca, other) = (issuer("ours"), issuer("other"));
    let roots = roots_from_pem(ca.pem().as_bytes()).unwrap();
    let (certificate, _) = issue(&ca, "a.test", |_| ());
    let (_, key) = issue(&other, "b.test", |_| ());
    assert!(RuleTls::new(0, Some(b"no certificate"), None, &roots).is_err());
    assert!(RuleTls::new(0, None, Some((certificate.as_bytes(), b"no key")), &roots).is_err());
    assert!(RuleTls::new(0, None, Some((certificate.as_bytes(), key.as_bytes())), &roots).is_err(), "not a pair");
    let message = RuleTls::new(0, None, Some((key.as_bytes(), key.as_bytes())), &roots).unwrap_err().to_string();
    assert_eq!(message, "holds no certificate in PEM");
}
