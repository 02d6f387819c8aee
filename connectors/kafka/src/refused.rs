/// Keys of librdkafka that the `librdkafka:` map must not set, with the reason. An entry that ends in `.` names a family.
pub const REFUSED: &[(&str, &str)] = &[
    ("acks", "a message counts as stored only when all in-sync replicas have it"),
    ("allow.auto.create.topics", "a topic name with a typing error must fail, not make a topic"),
    ("auto.commit.enable", "positions move only when the sink has confirmed"),
    ("auto.commit.interval.ms", "positions move only when the sink has confirmed"),
    ("auto.offset.reset", "set `start` and `on_out_of_range`: a silent jump loses messages"),
    ("background_event_cb", "needs a function"),
    ("batch.size", "follows `max_message_bytes`, so that a batch never passes the topic's limit"),
    ("bootstrap.servers", "set `brokers`"),
    ("builtin.features", "cannot be set"),
    ("client.id", "set `client_id`"),
    ("compression.codec", "set `compression`"),
    ("compression.type", "set `compression`"),
    ("connect_cb", "needs a function"),
    ("closesocket_cb", "needs a function"),
    ("consume.callback.max.messages", "the batch size follows the pipeline's queue"),
    ("consume_cb", "needs a function"),
    ("default_topic_conf", "needs an object"),
    ("delivery.report.only.error", "the pipeline needs the report of every message"),
    ("delivery.timeout.ms", "an outage is back-pressure: a message that gave up would be lost or out of order"),
    ("dr_cb", "needs a function"),
    ("dr_msg_cb", "needs a function"),
    ("enable.auto.commit", "positions move only when the sink has confirmed"),
    ("enable.auto.offset.store", "positions move only when the sink has confirmed"),
    ("enable.gapless.guarantee", "one message that is refused would end the pipeline"),
    ("enable.idempotence", "without it a retry can double and reorder messages"),
    ("enable.partition.eof", "the end of a partition is not an event of a pipeline"),
    ("enable.random.seed", "nobody needs it"),
    ("enable.sasl.", "set `sasl`: PLAIN and SCRAM are built in, other mechanisms are not"),
    ("enable.ssl.certificate.verification", "a broker that nobody has verified could read and change every message"),
    ("enabled_events", "is the connector's"),
    ("error_cb", "needs a function"),
    ("group.id", "set `group`"),
    ("group.instance.id", "set `group_instance_id`"),
    ("group.protocol", "the connector drives the classic protocol"),
    ("group.protocol.type", "the connector drives the classic protocol"),
    ("group.remote.assignor", "the connector drives the classic protocol"),
    ("interceptors", "needs a function"),
    ("isolation.level", "set `isolation`"),
    ("linger.ms", "set `linger`"),
    ("log.queue", "is the connector's"),
    ("log_cb", "needs a function"),
    ("log_level", "set the log filter for the target `librdkafka`"),
    ("max.in.flight", "idempotence decides it"),
    ("max.in.flight.requests.per.connection", "idempotence decides it"),
    ("message.max.bytes", "set `max_message_bytes`"),
    ("message.send.max.retries", "an outage is back-pressure: a message that gave up would be lost or out of order"),
    ("message.timeout.ms", "an outage is back-pressure: a message that gave up would be lost or out of order"),
    ("metadata.broker.list", "set `brokers`"),
    ("msg_order_cmp", "needs a function"),
    ("oauthbearer_token_refresh_cb", "needs a function"),
    ("offset.store.", "positions are kept by the broker"),
    ("offset_commit_cb", "needs a function"),
    ("opaque", "is the connector's"),
    ("open_cb", "needs a function"),
    ("partition.assignment.strategy", "cooperative-sticky is what the drain at a rebalance is built on"),
    ("partitioner", "murmur2_random is what Java clients use: another one breaks order for keys that others write too"),
    ("partitioner_cb", "needs a function"),
    ("plugin.library.paths", "would load foreign code into the bridge"),
    ("produce.offset.report", "the pipeline needs the report of every message"),
    ("queue.buffering.backpressure.threshold", "the sink's queue is bounded by its own settings"),
    ("queue.buffering.max.kbytes", "set the sink's `queue`"),
    ("queue.buffering.max.messages", "set the sink's `queue`"),
    ("queue.buffering.max.ms", "set `linger`"),
    ("queuing.strategy", "fifo is what the order per key is built on"),
    ("rebalance_cb", "needs a function"),
    ("request.required.acks", "a message counts as stored only when all in-sync replicas have it"),
    ("resolve_cb", "needs a function"),
    ("retries", "an outage is back-pressure: a message that gave up would be lost or out of order"),
    ("sasl.", "set `sasl`: PLAIN and SCRAM are built in, other mechanisms are not"),
    ("security.protocol", "follows from `tls` and `sasl`"),
    ("session.timeout.ms", "set `session_timeout`"),
    ("socket_cb", "needs a function"),
    ("ssl.ca.", "set `tls.ca`"),
    ("ssl.certificate.", "set `tls.cert`"),
    ("ssl.cipher.suites", "could name one that does not encrypt"),
    ("ssl.crl.location", "names a file that nobody has checked"),
    ("ssl.endpoint.identification.algorithm", "a broker whose name nobody has verified could take the password"),
    ("ssl.engine.", "would load foreign code into the bridge"),
    ("ssl.key.location", "set `tls.key`"),
    ("ssl.key.password", "a secret in this map would be in clear text: use a key file that only the bridge may read"),
    ("ssl.key.pem", "set `tls.key`"),
    ("ssl.keystore.", "set `tls.cert` and `tls.key`"),
    ("ssl.providers", "would load foreign code into the bridge"),
    ("ssl_", "set `tls`"),
    ("stats_cb", "needs a function"),
    ("statistics.interval.ms", "nobody would read them"),
    ("test.mock.", "would talk to a broker that forgets"),
    ("throttle_cb", "needs a function"),
    ("topic.blacklist", "an assigned partition that is not read would never move"),
    ("transaction.timeout.ms", "transactions are the connector's"),
    ("transactional.id", "transactions are the connector's"),
    ("ut_", "is for librdkafka's own tests"),
];

/// Why the `librdkafka:` map must not set this key; `None` when it may.
pub fn refused(key: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(entry, _)| matches(entry, key)).map(|(_, reason)| *reason)
}

fn matches(entry: &str, key: &str) -> bool {
    if entry.ends_with(['.', '_']) { key.starts_with(entry) } else { entry == key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_would_break_a_promise_is_refused_with_a_reason() {
        for key in [
            "enable.auto.commit",
            "enable.auto.offset.store",
            "acks",
            "enable.idempotence",
            "max.in.flight",
            "auto.offset.reset",
            "group.id",
            "partition.assignment.strategy",
            "transactional.id",
            "message.timeout.ms",
            "delivery.timeout.ms",
            "bootstrap.servers",
            "partitioner",
            "sasl.password",
            "ssl.cipher.suites",
            "ssl.crl.location",
            "ssl.endpoint.identification.algorithm",
            "ssl.engine.location",
            "ssl.key.password",
            "plugin.library.paths",
            "test.mock.num.brokers",
        ] {
            assert!(refused(key).is_some_and(|reason| !reason.is_empty()), "{key}");
        }
    }

    #[test]
    fn keys_for_tuning_pass() {
        for key in ["fetch.min.bytes", "socket.keepalive.enable", "queued.min.messages", "client.rack", "debug"] {
            assert_eq!(refused(key), None, "{key}");
        }
    }

    #[test]
    fn the_end_of_an_entry_says_whether_it_is_a_family() {
        assert_eq!(refused("ackss"), None);
        assert!(refused("sasl.anything.new").is_some());
    }
}
