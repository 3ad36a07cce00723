#!/usr/bin/env bash
# Gives each of Tapedeck's users in Kafka the permissions that it needs, and no others. Safe to
# repeat. docs/kafka-access.md says what each permission is for.
set -euo pipefail

usage() {
    cat <<'END'
Usage: acls.sh [--remove] [--create-topics] -- KAFKA-ACLS-ARGUMENTS

  acls.sh -- --bootstrap-server kafka:9093 --command-config admin.properties

What stands behind "--" goes to Kafka's kafka-acls.sh: how to reach Kafka as somebody who may change
permissions.

  --remove          takes the permissions away again
  --create-topics   lets gateway and writer make missing topics as well (TAPEDECK_CREATE_TOPICS)

Environment:
  KAFKA_ACLS                kafka-acls.sh, or where it is
  TAPEDECK_TOPIC_PREFIX     as the services have it (nothing)
  TAPEDECK_CONSUMER_GROUP   as the writers have it (tapedeck-writer)
  GATEWAY_PRINCIPAL         User:tapedeck-ingest-gateway
  WRITER_PRINCIPAL          User:tapedeck-writer
  REDRIVE_PRINCIPAL         User:tapedeck-redrive; of who runs `writer dead-letters` and `writer redrive`
END
}

change=--add
create_topics=false
while (($# > 0)); do
    case $1 in
        --remove) change=--remove ;;
        --create-topics) create_topics=true ;;
        --help) usage && exit ;;
        --) shift && break ;;
        *) echo "acls.sh: unknown option $1; see --help" >&2 && exit 2 ;;
    esac
    shift
done
if (($# == 0)); then
    usage >&2
    exit 2
fi
connection=("$@")

prefix=${TAPEDECK_TOPIC_PREFIX-}
events=${prefix}replay-events
webstates=${prefix}replay-webstates
dead_letters=${prefix}replay-dead-letters
group=${TAPEDECK_CONSUMER_GROUP-tapedeck-writer}

gateway=${GATEWAY_PRINCIPAL-User:tapedeck-ingest-gateway}
writer=${WRITER_PRINCIPAL-User:tapedeck-writer}
redrive=${REDRIVE_PRINCIPAL-User:tapedeck-redrive}

# Each call is one kind of permission, on everything that it names.
acl() {
    "${KAFKA_ACLS-kafka-acls.sh}" "${connection[@]}" "$change" --force "$@"
}

# Both check at start what the topics are like.
acl --allow-principal "$gateway" --allow-principal "$writer" --operation DescribeConfigs \
    --topic "$events" --topic "$webstates" --topic "$dead_letters"

acl --allow-principal "$gateway" --operation Write --topic "$events" --topic "$webstates"

acl --allow-principal "$writer" --operation Read \
    --topic "$events" --topic "$webstates" --group "$group"
acl --allow-principal "$writer" --operation Write --topic "$dead_letters"

acl --allow-principal "$redrive" --operation Read \
    --topic "$dead_letters" --group "${prefix}tapedeck-dead-letters-list"
# One group for each selection of dead letters keeps how far it has got.
acl --allow-principal "$redrive" --operation Read \
    --group "${prefix}tapedeck-redrive-" --resource-pattern-type prefixed
acl --allow-principal "$redrive" --operation Write --topic "$events" --topic "$webstates"

if $create_topics; then
    acl --allow-principal "$gateway" --allow-principal "$writer" --operation Create \
        --topic "$events" --topic "$webstates" --topic "$dead_letters"
fi
