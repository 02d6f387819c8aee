//! What librdkafka's error codes mean for a pipeline.

use portcullis_connector_api::{ConnectorError, ErrorKind, Refusal, RefusalKind};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

/// What to do about an error of a client as a whole.
pub(crate) fn kind(code: Code) -> ErrorKind {
    match code {
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::InconsistentGroupProtocol
        | Code::InvalidSessionTimeout
        | Code::InvalidGroupId
        | Code::InvalidArgument
        | Code::UnknownProtocol
        | Code::UnsupportedFeature
        | Code::UnsupportedVersion => ErrorKind::Configuration,
        Code::Fatal
        | Code::Fenced
        | Code::FencedInstanceId
        | Code::InvalidProducerEpoch
        | Code::ProducerFenced
        | Code::BadMessage
        | Code::BadCompression
        | Code::NotImplemented
        | Code::Underflow
        | Code::AutoOffsetReset => ErrorKind::Fatal,
        _ => ErrorKind::Retriable,
    }
}

/// An error of a client as a whole, with the name of the code, which is what people search for.
pub(crate) fn error(code: Code, context: impl AsRef<str>) -> ConnectorError {
    ConnectorError::new(kind(code), format!("{} ({code:?})", context.as_ref()))
}

/// What a delivery report means.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// This message alone.
    Refused(Refusal),
    /// All of them.
    Failed(ConnectorError),
}

/// Judges a message that the broker did not take. `own_topic` says that the topic was chosen for this message, so that a
/// wrong one is the message's fault and not the configuration's.
pub(crate) fn undelivered(code: Code, topic: &str, own_topic: bool) -> Undelivered {
    let refused = |kind, detail| Undelivered::Refused(Refusal { kind, detail });
    match code {
        Code::MessageSizeTooLarge => {
            refused(RefusalKind::Oversize, format!("topic `{topic}` takes no message of this size"))
        }
        Code::InvalidRecord | Code::InvalidTimestamp | Code::PolicyViolation | Code::InvalidMessage => {
            refused(RefusalKind::Rejected, format!("the broker does not take this message into `{topic}` ({code:?})"))
        }
        // The broker refused another message of the same batch and with it the batch. Sending this one again would put
        // it behind later ones of its key.
        Code::InvalidDifferentRecord => refused(
            RefusalKind::Rejected,
            format!("the broker did not take the batch of this message into `{topic}`, because of another one in it"),
        ),
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed
            if own_topic =>
        {
            refused(RefusalKind::Rejected, format!("cannot write to topic `{topic}` ({code:?})"))
        }
        Code::PurgeQueue | Code::PurgeInflight => Undelivered::Failed(ConnectorError::new(
            ErrorKind::Retriable,
            format!("closed before the broker confirmed a message to topic `{topic}`"),
        )),
        // librdkafka repeats for ever what may pass by itself, so what comes back will not.
        code => Undelivered::Failed(ConnectorError::new(
            match kind(code) {
                ErrorKind::Configuration => ErrorKind::Configuration,
                _ => ErrorKind::Fatal,
            },
            format!("cannot write to topic `{topic}` ({code:?})"),
        )),
    }
}

/// An error of rdkafka, without the value of a setting: it may be a secret.
pub(crate) fn from_rdkafka(context: &str, error: &KafkaError) -> ConnectorError {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            ConnectorError::new(ErrorKind::Configuration, format!("{context}: `{key}`: {reason}"))
        }
        KafkaError::ClientCreation(reason) => {
            ConnectorError::new(ErrorKind::Configuration, format!("{context}: {reason}"))
        }
        KafkaError::Nul(_) => ConnectorError::new(ErrorKind::Configuration, format!("{context}: a NUL in a setting")),
        other => match other.rdkafka_error_code() {
            Some(code) => self::error(code, format!("{context}: {code}")),
            None => ConnectorError::new(ErrorKind::Fatal, format!("{context}: {other}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_may_pass_and_a_wrong_name_or_password_does_not() {
        for code in [Code::BrokerTransportFailure, Code::AllBrokersDown, Code::Resolve, Code::RebalanceInProgress] {
            assert_eq!(kind(code), ErrorKind::Retriable, "{code:?}");
        }
        for code in [Code::UnknownTopicOrPartition, Code::Authentication, Code::GroupAuthorizationFailed] {
            assert_eq!(kind(code), ErrorKind::Configuration, "{code:?}");
        }
        assert_eq!(kind(Code::FencedInstanceId), ErrorKind::Fatal);
    }

    #[test]
    fn an_unknown_topic_is_the_messages_fault_only_where_the_message_chose_it() {
        let unknown = Code::UnknownTopicOrPartition;
        assert!(matches!(undelivered(unknown, "t", true), Undelivered::Refused(_)));
        let Undelivered::Failed(error) = undelivered(unknown, "t", false) else { panic!("refused") };
        assert_eq!(error.kind, ErrorKind::Configuration);
        assert!(error.context.contains("`t`"));
    }

    #[test]
    fn what_librdkafka_gave_up_is_never_called_retriable_but_at_the_end() {
        let Undelivered::Failed(error) = undelivered(Code::BrokerTransportFailure, "t", false) else { panic!() };
        assert_eq!(error.kind, ErrorKind::Fatal);
        let Undelivered::Failed(error) = undelivered(Code::PurgeQueue, "t", false) else { panic!() };
        assert_eq!(error.kind, ErrorKind::Retriable);
    }

    #[test]
    fn the_value_of_a_wrong_setting_is_not_in_the_error() {
        let mut config = rdkafka::ClientConfig::new();
        config.set("linger.ms.", "hunter2");
        let error = config.create_native_config().err().unwrap();
        let error = from_rdkafka("sink", &error);
        assert!(error.context.contains("linger.ms.") && !error.context.contains("hunter2"), "{}", error.context);
    }
}
