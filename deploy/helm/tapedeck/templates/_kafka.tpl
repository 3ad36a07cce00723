{{/*
How gateways and writers reach Kafka.
*/}}

{{/* The Secret of a service: its own, or that of both. Takes (list $ the service's own). */}}
{{- define "tapedeck.kafkaSecret" -}}
{{- $own := index . 1 -}}
{{- ternary $own (index . 0).Values.kafka.propertiesSecret (ne $own.name "") | toYaml -}}
{{- end }}

{{/* Takes (list $ the service's own Secret), as those below. */}}
{{- define "tapedeck.kafkaEnvironment" -}}
{{- $kafka := (index . 0).Values.kafka -}}
{{- $secret := include "tapedeck.kafkaSecret" . | fromYaml -}}
- name: TAPEDECK_KAFKA_BROKERS
  value: {{ $kafka.brokers | quote }}
{{- if $secret.name }}
- name: TAPEDECK_KAFKA_PROPERTIES_FILE
  value: /etc/tapedeck/kafka/{{ $secret.key }}
{{- end }}
{{- with $kafka.topicPrefix }}
- name: TAPEDECK_TOPIC_PREFIX
  value: {{ . | quote }}
{{- end }}
- name: TAPEDECK_CREATE_TOPICS
  value: {{ $kafka.createTopics | quote }}
- name: TAPEDECK_TOPIC_PARTITIONS
  value: {{ int $kafka.topicPartitions | quote }}
{{- include "tapedeck.options" $kafka.config }}
{{- end }}

{{- define "tapedeck.kafkaMount" -}}
{{- if (include "tapedeck.kafkaSecret" . | fromYaml).name }}
- name: kafka
  mountPath: /etc/tapedeck/kafka
  readOnly: true
{{- end }}
{{- end }}

{{- define "tapedeck.kafkaVolume" -}}
{{- with (include "tapedeck.kafkaSecret" . | fromYaml).name }}
- name: kafka
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}
