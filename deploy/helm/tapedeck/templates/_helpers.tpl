{{/*
Names, labels and options. All but the last take (list $ component).
*/}}

{{/* Begins with the release's name, which need not say tapedeck twice. */}}
{{- define "tapedeck.name" -}}
{{- $release := (index . 0).Release.Name -}}
{{- $base := ternary $release (printf "%s-tapedeck" $release) (contains "tapedeck" $release) -}}
{{- printf "%s-%s" ($base | trunc 44 | trimSuffix "-") (index . 1) -}}
{{- end }}

{{- define "tapedeck.selectorLabels" -}}
app.kubernetes.io/name: tapedeck
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* May be given further labels as well. */}}
{{- define "tapedeck.metadata" -}}
name: {{ include "tapedeck.name" . }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "tapedeck.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
  {{- if gt (len .) 2 }}
  {{- with index . 2 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- end }}

{{/* A map of options as environment variables. Helm reads numbers as floating-point ones, and would
     print large ones with an exponent. */}}
{{- define "tapedeck.options" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ if kindIs "float64" $value }}{{ $value | int64 | quote }}{{ else }}{{ $value | quote }}{{ end }}
{{- end }}
{{- end }}
