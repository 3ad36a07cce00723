//! What somebody has to allow, in the words of Kafka's ACLs, where Kafka refuses for want of a
//! permission. Such a refusal is nobody's poison: it is waited out, as the permission may come.

use rdkafka::types::RDKafkaErrorCode;

/// What a producer lacks for a topic; none where the error is another one. Without any topic that
/// it may write to, an idempotent producer is refused by the cluster.
pub fn lacking_to_produce(code: RDKafkaErrorCode, topic: &str) -> Option<String> {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            Some(format!("Kafka does not permit it: allow this user Write on topic {topic}"))
        }
        _ => None,
    }
}

/// What a consumer lacks for a topic and its group; none where the error is another one.
pub fn lacking_to_consume(code: RDKafkaErrorCode, topic: &str, group: &str) -> Option<String> {
    let what = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => format!("topic {topic}"),
        RDKafkaErrorCode::GroupAuthorizationFailed => format!("group {group}"),
        _ => return None,
    };
    Some(format!("Kafka does not permit it: allow this user Read on {what}"))
}
