{{/*
How gateways and writers reach Kafka.
*/}}

{{- define "tapedeck.kafkaEnvironment" -}}
{{- $kafka := .Values.kafka -}}
- name: TAPEDECK_KAFKA_BROKERS
  value: {{ $kafka.brokers | quote }}
{{- if $kafka.propertiesSecret.name }}
- name: TAPEDECK_KAFKA_PROPERTIES_FILE
  value: /etc/tapedeck/kafka/{{ $kafka.propertiesSecret.key }}
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
{{- if .Values.kafka.propertiesSecret.name }}
- name: kafka
  mountPath: /etc/tapedeck/kafka
  readOnly: true
{{- end }}
{{- end }}

{{- define "tapedeck.kafkaVolume" -}}
{{- with .Values.kafka.propertiesSecret.name }}
- name: kafka
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}
