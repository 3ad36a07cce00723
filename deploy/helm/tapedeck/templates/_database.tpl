{{/*
How migration, writers and reporters reach Postgres. The address comes as a file: in the environment
everybody could read it who may look at the process, and a file may change while it runs. All of the
Secret is mounted, as the address may name certificates in it.
*/}}

{{/* The Secret of a service: its own, or that of all. Takes (list $ the service's own). */}}
{{- define "tapedeck.databaseSecret" -}}
{{- $own := index . 1 -}}
{{- ternary $own (index . 0).Values.database.urlSecret (ne $own.name "") | toYaml -}}
{{- end }}

{{/* Takes (list $ the service's own Secret). */}}
{{- define "tapedeck.databaseEnvironment" -}}
- name: TAPEDECK_DATABASE_URL_FILE
  value: /etc/tapedeck/database/{{ (include "tapedeck.databaseSecret" . | fromYaml).key }}
{{- include "tapedeck.options" (index . 0).Values.database.config }}
{{- end }}

{{- define "tapedeck.databaseMount" -}}
- name: database
  mountPath: /etc/tapedeck/database
  readOnly: true
{{- end }}

{{/* Takes (list $ the service's own Secret). */}}
{{- define "tapedeck.databaseVolume" -}}
- name: database
  secret:
    secretName: {{ (include "tapedeck.databaseSecret" . | fromYaml).name }}
    defaultMode: 0440
{{- end }}
