//! What a server says before a start.

use std::time::Duration;

use portcullis_connector_nats::{Auth, Connection, Inspector, Secret, Storage};

use crate::server::Server;
use crate::support::{Reader, source_settings};

fn inspector(connection: &Connection) -> Inspector {
    let (facts, inspector) = Inspector::connect(connection).unwrap();
    assert!(facts.iter().any(|server| server.found.is_ok()), "{facts:?}");
    inspector.unwrap()
}

#[test]
fn each_server_says_what_it_is_and_one_that_is_away_leaves_the_others() {
    let server = Server::start();
    let mut connection = server.connection();
    connection.servers.insert(0, "nats://127.0.0.1:1".to_owned());
    let (facts, inspector) = Inspector::connect(&connection).unwrap();
    assert!(facts[0].found.as_ref().unwrap_err().contains("cannot be reached"), "{facts:?}");
    let greeting = facts[1].found.as_ref().unwrap();
    assert!(greeting.version.starts_with("2.") && greeting.max_payload == 1 << 20, "{greeting:?}");
    inspector.unwrap().jetstream().unwrap();
    connection.servers.truncate(1);
    let (_, none) = Inspector::connect(&connection).unwrap();
    assert!(none.is_none());
}

#[test]
fn what_is_not_there_is_not_made_and_what_is_there_tells_the_servers_clock() {
    let server = Server::start();
    let inspector = inspector(&server.connection());
    let settings = source_settings(server.connection());
    assert_eq!(inspector.stream("S").unwrap(), None);
    assert!(!inspector.consumer(&settings).unwrap());
    assert_eq!(inspector.stream("S").unwrap(), None, "a look has made it");
    let mut reader = Reader::of(settings.clone());
    reader.until("the source has made its consumer", |_| inspector.consumer(&settings).unwrap());
    let facts = inspector.stream("S").unwrap().unwrap();
    assert_eq!((facts.subjects.join(" "), facts.replicas, facts.storage), ("s s.>".to_owned(), 1, Storage::Memory));
    let (difference, _) = facts.clock.expect("this server tells its time").difference();
    assert!(difference < Duration::from_secs(1), "the same machine has one clock: {difference:?}");
}

#[test]
fn a_server_without_jetstream_and_a_user_without_rights_are_told() {
    let server = Server::with(
        "authorization { users: [ { user: pc, password: p, permissions: {\n\
           publish: { allow: [\"orders.>\", \"$SYS.REQ.USER.INFO\", \"$JS.>\"], deny: [\"orders.secret\"] },\n\
           subscribe: { allow: [\"open.*\", \"_INBOX.>\"] } } } ] }",
    );
    let mut connection = server.connection();
    connection.auth = Some(Auth::Password { user: "pc".into(), password: Secret::new("p") });
    let inspector = inspector(&connection);
    inspector.jetstream().unwrap_err();
    let permissions = inspector.permissions().unwrap();
    assert!(permissions.may_publish("orders.eu") && permissions.may_subscribe("open.1"), "{permissions:?}");
    for refused in ["orders.secret", "other"] {
        assert!(!permissions.may_publish(refused), "{permissions:?}");
    }
    assert!(!permissions.may_subscribe("closed.1") && !permissions.may_subscribe("open.>"), "{permissions:?}");
}

#[test]
fn everything_is_allowed_where_nobody_has_said_otherwise() {
    let server = Server::start();
    let permissions = inspector(&server.connection()).permissions().unwrap();
    assert!(permissions.may_publish("a") && permissions.may_subscribe(">"), "{permissions:?}");
}
