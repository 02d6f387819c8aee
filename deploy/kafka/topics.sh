#!/bin/sh
# Creates what the pipeline and the audit need; what is there stays as it is. Partitions: as many as bridges may share the work.
set -eu
brokers=${KAFKA_BROKERS:-kafka:9092}
tools=${KAFKA_TOOLS:-/opt/kafka/bin}
replicas=${KAFKA_REPLICAS:-1}

create() {
    name=$1 partitions=$2
    shift 2
    "$tools/kafka-topics.sh" --bootstrap-server "$brokers" --create --if-not-exists \
        --topic "$name" --partitions "$partitions" --replication-factor "$replicas" "$@"
}

week=604800000
month=2592000000
# The broker's clock, so that retention and the measured latency begin when a message came in.
create orders.raw 6 --config retention.ms=$week --config message.timestamp.type=LogAppendTime
create orders.clean 6 --config retention.ms=$week
# Long enough to be looked at and sent again.
create orders.dlq 3 --config retention.ms=$month
# Evidence: kept without end, never compacted (that would tear the chain), one partition so that it is read in order.
create portcullis.audit 1 --config retention.ms=-1 --config retention.bytes=-1 --config cleanup.policy=delete
