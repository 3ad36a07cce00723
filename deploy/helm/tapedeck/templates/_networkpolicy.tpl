{{/*
Rules of network policies.
*/}}

{{/* Takes (list ports). */}}
{{- define "tapedeck.tcpPorts" -}}
{{- range . }}
- protocol: TCP
  port: {{ int . }}
{{- end }}
{{- end }}

{{- define "tapedeck.metricsIngress" -}}
- from:
    {{- toYaml .Values.networkPolicy.metricsFrom | nindent 4 }}
  ports:
    - protocol: TCP
      port: admin
{{- end }}

{{- define "tapedeck.dnsEgress" -}}
- to:
    {{- toYaml .Values.networkPolicy.dnsTo | nindent 4 }}
  ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
{{- end }}

{{- define "tapedeck.kafkaEgress" -}}
- to:
    {{- toYaml .Values.networkPolicy.kafkaTo | nindent 4 }}
  ports:
    {{- include "tapedeck.tcpPorts" .Values.networkPolicy.kafkaPorts | nindent 4 }}
{{- end }}

{{- define "tapedeck.tracesEgress" -}}
{{- if or .Values.tracing.endpoint .Values.tracing.config.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT }}
- to:
    {{- toYaml .Values.networkPolicy.tracesTo | nindent 4 }}
  ports:
    {{- include "tapedeck.tcpPorts" .Values.networkPolicy.tracesPorts | nindent 4 }}
{{- end }}
{{- end }}

{{- define "tapedeck.databaseEgress" -}}
- to:
    {{- toYaml .Values.networkPolicy.databaseTo | nindent 4 }}
  ports:
    {{- include "tapedeck.tcpPorts" .Values.networkPolicy.databasePorts | nindent 4 }}
{{- end }}
