{{- define "spanwire.env" -}}
# Only pods of this node are asked for.
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- if .Values.port }}
- name: OTEL_EBPF_HEALTH_CHECK_PORT
  value: {{ .Values.port | quote }}
{{- if include "spanwire.listensOnPodIP" . }}
- name: OTEL_EBPF_HEALTH_CHECK_LISTEN_ADDRESS
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- end }}
{{- end }}
{{- if .Values.metrics.enabled }}
- name: OTEL_EBPF_INTERNAL_METRICS_EXPORTER
  value: prometheus
- name: OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT
  value: {{ .Values.port | quote }}
- name: OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PATH
  value: {{ .Values.metrics.path | quote }}
{{- end }}
{{- with .Values.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
