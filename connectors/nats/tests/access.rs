//! Who may connect, and what is shown when somebody may not.

use std::fs;
use std::path::Path;

use portcullis_connector_api::{ErrorKind, Fate, Sink};
use portcullis_connector_nats::{
    Auth, Connection, CoreSink, CoreSinkSettings, CoreSource, CoreSourceSettings, JetStreamSink, Secret, SubjectRule,
    Tls,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::server::Server;
use crate::support::{LIMIT, Reader, eventually, fates, numbered, send, sink_settings};
use crate::way::Way;

const SECRET: &str = "hunter2-hunter2";

fn connects(connection: Connection) -> Result<(), portcullis_connector_api::ConnectorError> {
    let settings = CoreSinkSettings::new(connection, SubjectRule::Fixed("s".into()));
    CoreSink::new(settings, fates().1)?.check(LIMIT)
}

fn with(server: &Server, auth: Auth) -> Connection {
    let mut connection = server.connection();
    connection.auth = Some(auth);
    connection
}

/// The wrong proof ends it as the configuration's fault, without the secret in what is said.
fn is_refused(connection: Connection) {
    let error = connects(connection.clone()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    assert!(error.context.contains("does not accept who we are"), "{error}");
    assert!(!format!("{error:?} {connection:?}").contains(SECRET));
}

#[test]
fn a_password_and_a_token_open_what_they_belong_to() {
    let by_password = Server::with(&format!("authorization {{ user: pc, password: \"{SECRET}\" }}"));
    let password = |password: &str| Auth::Password { user: "pc".into(), password: Secret::new(password) };
    connects(with(&by_password, password(SECRET))).unwrap();
    is_refused(with(&by_password, password("wrong")));
    is_refused(with(&by_password, Auth::Token(Secret::new(SECRET))));
    is_refused(by_password.connection());
    let by_token = Server::with(&format!("authorization {{ token: \"{SECRET}\" }}"));
    connects(with(&by_token, Auth::Token(Secret::new(SECRET)))).unwrap();
    is_refused(with(&by_token, Auth::Token(Secret::new("wrong"))));
}

#[test]
fn an_nkey_opens_by_its_seed_and_another_does_not() {
    let (pair, stranger) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let server = Server::with(&format!("authorization {{ users: [ {{ nkey: {} }} ] }}", pair.public_key()));
    let folder = tempfile::tempdir().unwrap();
    let seed = |name: &str, pair: &nkeys::KeyPair| {
        let path = folder.path().join(name);
        fs::write(&path, pair.seed().unwrap()).unwrap();
        Auth::NkeySeed(path)
    };
    connects(with(&server, seed("ours", &pair))).unwrap();
    is_refused(with(&server, seed("another", &stranger)));
    let error = connects(with(&server, Auth::NkeySeed(folder.path().join("absent")))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.context.contains("absent"), "{error}");
}

/// An authority with a certificate of this machine and one of a client, each with its key.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn tls_needs_the_authority_and_the_certificate_that_the_server_asks_for() {
    let (ours, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(ours.path());
    for file in ["ca.pem", "server.pem", "server.key"] {
        fs::copy(ours.path().join(file), folder.path().join(file)).unwrap();
    }
    let settings = "tls { cert_file: \"FOLDER/server.pem\", key_file: \"FOLDER/server.key\", \
                    ca_file: \"FOLDER/ca.pem\", verify: true }";
    let server = Server::within(folder, settings);
    let file = |name: &str| Some(ours.path().join(name));
    let with = |tls: Tls| {
        let mut connection = server.connection();
        connection.tls = Some(tls);
        connection
    };
    let full = Tls { ca: file("ca.pem"), cert: file("client.pem"), key: file("client.key"), first: false };
    connects(with(full.clone())).unwrap();
    let wait = std::time::Duration::from_secs(2);
    for (tls, what) in
        [(Tls { ca: None, ..full.clone() }, "authority"), (Tls { cert: None, key: None, ..full.clone() }, "own")]
    {
        let settings = CoreSinkSettings::new(with(tls), SubjectRule::Fixed("s".into()));
        CoreSink::new(settings, fates().1).unwrap().check(wait).expect_err(what);
    }
    let error = connects(with(Tls { key: None, ..full })).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
}

#[test]
fn a_subject_that_must_not_be_used_is_named() {
    let server = Server::with(
        "jetstream { store_dir: \"FOLDER/store\" }\n\
         authorization { users: [ { user: pc, password: p, permissions: {\n\
           publish: { deny: [\"s\", \"s.secret\"] }, subscribe: { deny: \"closed.>\" } } } ] }",
    );
    let connection = with(&server, Auth::Password { user: "pc".into(), password: Secret::new("p") });
    let settings = CoreSourceSettings::new(connection.clone(), vec!["closed.1".into()]);
    let error = Reader::new(CoreSource::new(settings).unwrap()).failure();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.context.contains("closed.1"), "{error}");

    let (fates_of_fixed, confirm) = fates();
    let sink = JetStreamSink::new(sink_settings(connection.clone()), confirm).unwrap();
    send(&sink, &numbered(0), None, 0);
    eventually("the message is confirmed", || fates_of_fixed.count() == 1);
    let Fate::Failed(error) = fates_of_fixed.take().remove(0).1 else { panic!("not failed") };
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.context.contains("`s`"), "{error}");

    let (fates, confirm) = fates();
    let mut settings = sink_settings(connection);
    settings.subject = SubjectRule::template("s.{{key}}", &["s.*".to_owned()], &[]).unwrap();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    for (token, key) in ["secret", "open"].into_iter().enumerate() {
        let message = portcullis_connector_api::Message { key: Some(key.into()), ..numbered(0) };
        send(&sink, &message, None, token as u64);
    }
    assert_eq!(sink.drain(LIMIT), 0);
    let mut fates = fates.take();
    fates.sort_by_key(|(token, _)| *token);
    assert!(matches!((&fates[0].1, &fates[1].1), (Fate::Refused(_), Fate::Stored(_))), "{fates:?}");
}

#[test]
fn a_server_that_refuses_us_for_a_while_after_its_restart_is_an_outage() {
    let lines = |password: &str| format!("authorization {{ user: pc, password: \"{password}\" }}");
    let mut server = Server::with(&lines(SECRET));
    let (of_sink, of_source) = (Way::to(&server), Way::to(&server));
    let through = |way: &Way| {
        let mut connection = way.connection(&server);
        connection.auth = Some(Auth::Password { user: "pc".into(), password: Secret::new(SECRET) });
        connection
    };
    let (fates, confirm) = fates();
    let settings = CoreSinkSettings::new(through(&of_sink), SubjectRule::Fixed("s".into()));
    let sink = CoreSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    let source = CoreSource::new(CoreSourceSettings::new(through(&of_source), vec!["s".into()])).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    let mut reader = Reader::new(source);
    server.kill();
    server.set(&lines("not yet"));
    server.run();
    let refused = |why: &String| why.contains("does not accept who we are");
    eventually("the sink is refused", || sink.not_ready().as_ref().is_some_and(refused));
    reader.until("the source is refused", |reader| reader.troubles.iter().any(refused));
    let before = (of_sink.made(), of_source.made());
    reader.until("each has tried several times more", |_| {
        of_sink.made() >= before.0 + 4 && of_source.made() >= before.1 + 4
    });
    send(&sink, &numbered(0), None, 0);
    server.kill();
    server.set(&lines(SECRET));
    server.run();
    assert_eq!(sink.drain(LIMIT), 0, "{:?}", sink.not_ready());
    assert!(matches!(fates.take()[..], [(_, Fate::Stored(_))]));
    eventually("messages come again", || {
        send(&sink, &numbered(1), None, 1);
        reader.poll(crate::support::ALL).is_ok() && !reader.records.is_empty()
    });
}
