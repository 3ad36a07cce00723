{{/*
The pods of writers, whatever looks after them.
*/}}

{{- define "tapedeck.writerPod" -}}
{{- $self := list $ "writer" -}}
{{- $writer := .Values.writer -}}
metadata:
  labels:
    {{- include "tapedeck.selectorLabels" $self | nindent 4 }}
  {{- include "tapedeck.podAnnotations" $ | nindent 2 }}
spec:
  {{- include "tapedeck.pod" (list $ $writer.serviceAccountName) | nindent 2 }}
  {{- include "tapedeck.servicePod" $self | nindent 2 }}
  terminationGracePeriodSeconds: {{ int $writer.terminationGracePeriodSeconds }}
  containers:
    - name: writer
      args: [run]
      {{- include "tapedeck.container" (list $ $writer.image $writer.resources) | nindent 6 }}
      ports:
        - name: admin
          containerPort: 9090
      {{- include "tapedeck.probes" $ | nindent 6 }}
      env:
        {{- include "tapedeck.adminEnvironment" $ | nindent 8 }}
        {{- include "tapedeck.tracesEnvironment" $ | nindent 8 }}
        {{- include "tapedeck.commonEnvironment" $ | nindent 8 }}
        {{- include "tapedeck.kafkaEnvironment" (list $ $writer.kafkaPropertiesSecret) | nindent 8 }}
        {{- include "tapedeck.databaseEnvironment" (list $ $writer.databaseUrlSecret) | nindent 8 }}
        {{- if $writer.statefulSet }}
        - name: TAPEDECK_GROUP_INSTANCE_ID
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
        - name: TAPEDECK_CONSUMER_GROUP
          value: {{ $writer.consumerGroup | quote }}
        - name: TAPEDECK_LANES
          value: {{ int $writer.lanes | quote }}
        - name: TAPEDECK_PAGE_LANES
          value: {{ int $writer.pageLanes | quote }}
        - name: TAPEDECK_DRAIN_TIMEOUT_MS
          value: {{ mul $writer.drainTimeoutSeconds 1000 | quote }}
        {{- include "tapedeck.options" $writer.config | nindent 8 }}
      volumeMounts:
        {{- include "tapedeck.kafkaMount" (list $ $writer.kafkaPropertiesSecret) | nindent 8 }}
        {{- include "tapedeck.databaseMount" $ | nindent 8 }}
  volumes:
    {{- include "tapedeck.kafkaVolume" (list $ $writer.kafkaPropertiesSecret) | nindent 4 }}
    {{- include "tapedeck.databaseVolume" (list $ $writer.databaseUrlSecret) | nindent 4 }}
{{- end }}
