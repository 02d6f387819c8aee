//! A server whose users are those that an operator's accounts vouch for, and the files that these users have.

use std::fs;
use std::path::Path;

use nkeys::KeyPair;
use portcullis_connector_api::{ConnectorError, ErrorKind, Fate, Sink};
use portcullis_connector_nats::{
    Auth, Connection, CoreSink, CoreSinkSettings, CoreSource, CoreSourceSettings, SubjectRule,
};
use serde_json::{Value, json};

use crate::server::Server;
use crate::support::{LIMIT, Reader, eventually, fates, numbered, send};

/// The alphabet of addresses, without filling at the end.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let of = |chunk: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        (0..=chunk.len()).map(move |at| char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize])).collect::<String>()
    };
    bytes.chunks(3).map(of).collect()
}

/// What `issuer` says about the owner of a public key.
fn token(issuer: &KeyPair, subject: &str, nats: Value, expires: Option<u64>) -> String {
    let mut claims = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test", "sub": subject, "nats": nats,
    });
    if let Some(expires) = expires {
        claims["exp"] = json!(expires);
    }
    let head = base64(json!({ "typ": "JWT", "alg": "ed25519-nkey" }).to_string().as_bytes());
    let signed = format!("{head}.{}", base64(claims.to_string().as_bytes()));
    let signature = base64(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// Unbounded, and may use everything but the subject `closed`.
fn user(account: &KeyPair, user: &KeyPair, expires: Option<u64>) -> String {
    let rights = json!({
        "pub": { "deny": ["closed"] }, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2,
    });
    token(account, &user.public_key(), rights, expires)
}

/// As `nsc` writes it.
fn credentials(folder: &Path, name: &str, jwt: &str, pair: &KeyPair) -> Auth {
    let path = folder.join(name);
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\
         NKEYs are sensitive and should be treated as secrets.\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n\n\
         *************************************************************\n",
        pair.seed().unwrap()
    );
    fs::write(&path, text).unwrap();
    Auth::Credentials(path)
}

/// A server with one operator and one of its accounts.
fn server() -> (Server, KeyPair) {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let unbounded = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
    });
    let of_account = json!({ "limits": unbounded, "type": "account", "version": 2 });
    let of_account = token(&operator, &account.public_key(), of_account, None);
    let of_operator = token(&operator, &operator.public_key(), json!({ "type": "operator", "version": 2 }), None);
    let server = Server::with(&format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}",
        account.public_key()
    ));
    (server, account)
}

fn with(server: &Server, auth: Auth) -> Connection {
    let mut connection = server.connection();
    connection.auth = Some(auth);
    connection
}

fn sink(connection: Connection, subject: &str) -> CoreSinkSettings {
    CoreSinkSettings::new(connection, SubjectRule::Fixed(subject.into()))
}

fn connects(connection: Connection) -> Result<(), ConnectorError> {
    CoreSink::new(sink(connection, "s"), fates().1)?.check(LIMIT)
}

#[test]
fn a_credentials_file_opens_what_its_account_may_use_on_each_connection() {
    let (mut server, account) = server();
    let (folder, pair) = (tempfile::tempdir().unwrap(), KeyPair::new_user());
    let auth = credentials(folder.path(), "bridge.creds", &user(&account, &pair, None), &pair);
    let source = CoreSource::new(CoreSourceSettings::new(with(&server, auth.clone()), vec!["s".into()])).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    let mut reader = Reader::new(source);
    let (told, confirm) = fates();
    let sink = CoreSink::new(sink(with(&server, auth.clone()), "s"), confirm).unwrap();
    send(&sink, &numbered(1), None, 1);
    assert_eq!(sink.drain(LIMIT), 0, "{:?}", sink.not_ready());
    reader.until_count(1);
    // Signed anew for another connection.
    server.kill();
    server.run();
    eventually("messages come again", || {
        send(&sink, &numbered(2), None, 2);
        drop(reader.poll(crate::support::ALL));
        reader.records.len() > 1
    });
    assert_eq!(sink.drain(LIMIT), 0);
    assert!(told.take().iter().all(|(_, fate)| matches!(fate, Fate::Stored(_))));
    let (told, confirm) = fates();
    let denied = CoreSink::new(self::sink(with(&server, auth), "closed"), confirm).unwrap();
    send(&denied, &numbered(3), None, 3);
    eventually("what the account must not is told", || told.count() == 1);
    let Fate::Failed(error) = told.take().remove(0).1 else { panic!("not failed") };
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.context.contains("`closed`"), "{error}");
}

#[test]
fn credentials_that_the_operator_does_not_vouch_for_open_nothing_and_are_not_shown() {
    let (server, account) = server();
    let (folder, pair, stranger) = (tempfile::tempdir().unwrap(), KeyPair::new_user(), KeyPair::new_account());
    let good = user(&account, &pair, None);
    let cases = [
        ("expired", user(&account, &pair, Some(1_700_000_001)), &pair),
        ("of_a_stranger", user(&stranger, &pair, None), &pair),
        ("with_another_seed", good.clone(), &KeyPair::new_user()),
    ];
    for (name, jwt, pair) in cases {
        let auth = credentials(folder.path(), name, &jwt, pair);
        let error = connects(with(&server, auth.clone())).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration, "{name}: {error}");
        assert!(error.context.contains("does not accept who we are"), "{name}: {error}");
        let shown = format!("{error:?} {auth:?}");
        assert!(!shown.contains(&pair.seed().unwrap()) && !shown.contains(&jwt), "{name}");
    }
    let error = connects(server.connection()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    connects(with(&server, credentials(folder.path(), "good", &good, &pair))).unwrap();
}
