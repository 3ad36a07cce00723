{{/*
What all pods and their containers have in common.
*/}}

{{/* Takes (list $ serviceAccountName). */}}
{{- define "tapedeck.pod" -}}
{{- $values := (index . 0).Values -}}
serviceAccountName: {{ index . 1 }}
# Nothing here talks to Kubernetes.
automountServiceAccountToken: false
# Variables for Services would begin with TAPEDECK_, as those for options do.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int64 $values.runAsUser }}
  runAsGroup: {{ int64 $values.runAsUser }}
  # Lets the user read the Secrets.
  fsGroup: {{ int64 $values.runAsUser }}
  seccompProfile:
    type: RuntimeDefault
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What only pods that stay have. Takes (list $ component). */}}
{{- define "tapedeck.servicePod" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml . | nindent 4 | trim }}
    labelSelector:
      matchLabels:
        {{- include "tapedeck.selectorLabels" $ | nindent 8 }}
    # Else the pods that are about to go would count while others replace them.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{- define "tapedeck.podAnnotations" -}}
{{- with .Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Takes (list $ image resources). */}}
{{- define "tapedeck.container" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $root.Values.imagePullPolicy }}
# The services' last words say why they end.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml (index . 2) | nindent 2 }}
{{- end }}

{{/* Liveness never depends on Kafka or Postgres. Readiness does: of writers and reporters, to which
     nobody sends, and of a gateway until it has reached Kafka once. Starting takes less than a second
     whatever is away, as the admin port comes first; half a minute is for nodes without a free core.
     The services find out themselves that they hang: a gateway after 15 s, a writer after 60. */}}
{{- define "tapedeck.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{- define "tapedeck.commonEnvironment" -}}
- name: TAPEDECK_LOG
  value: {{ .Values.logging.filter | quote }}
- name: TAPEDECK_LOG_FORMAT
  value: {{ .Values.logging.format }}
- name: TAPEDECK_LOG_REPEAT_SECONDS
  value: {{ .Values.logging.repeatSeconds | quote }}
{{- end }}

{{- define "tapedeck.tracesEnvironment" -}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.tracing.endpoint | quote }}
{{- with .Values.tracing.headersSecret }}
{{- if .name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- include "tapedeck.options" .Values.tracing.config }}
{{- end }}

{{- define "tapedeck.adminEnvironment" -}}
- name: TAPEDECK_ADMIN_LISTEN
  value: {{ printf "%s:9090" .Values.listenAddress | quote }}
{{- end }}
