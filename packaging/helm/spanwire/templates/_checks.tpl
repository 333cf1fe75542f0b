{{/* What the schema cannot say. Each of these would otherwise be a pod that starts and does nothing, or not what was meant. */}}
{{- define "spanwire.checks" -}}
{{- $config := .Values.config }}
{{- if and $config .Values.existingConfigMap }}
{{- fail "config and existingConfigMap are both set: choose one" }}
{{- end }}
{{- range $key, $value := dict "health_check" "port" "internal_metrics" "port and metrics" }}
{{- if hasKey $config $key }}
{{- fail (printf "config.%s: set %s of the chart instead, as the probes and the monitors must know too" $key $value) }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.enabled (not .Values.port) }}
{{- fail "metrics.enabled is true and port is 0" }}
{{- end }}
{{- if and (or .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled) (not .Values.metrics.enabled) }}
{{- fail "a monitor is enabled and metrics.enabled is not: there would be nothing to scrape" }}
{{- end }}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled }}
{{- fail "metrics.podMonitor and metrics.serviceMonitor are both enabled: every sample would be scraped twice" }}
{{- end }}
{{- /* A ConfigMap or Secret of the user's may say what cannot be seen from here. */}}
{{- if not (or .Values.existingConfigMap .Values.envFrom) }}
{{- include "spanwire.checkSelection" . }}
{{- include "spanwire.checkExport" . }}
{{- end }}
{{- end }}

{{- define "spanwire.envMatches" -}}
{{- $pattern := index . 1 }}
{{- range (index . 0).Values.env }}
{{- if regexMatch $pattern .name }}true{{ end }}
{{- end }}
{{- end }}

{{- define "spanwire.checkSelection" -}}
{{- $config := .Values.config }}
{{- $names := "OPEN_PORT|TARGET_PID|AUTO_TARGET_EXE|AUTO_TARGET_LANGUAGE|EXECUTABLE_PATH|EXECUTABLE_NAME" }}
{{- $selected := include "spanwire.envMatches" (list . (printf "^((OTEL_EBPF|BEYLA)_(%s)|OTEL_GO_AUTO_TARGET_EXE)$" $names)) }}
{{- range list "open_port" "target_pids" "auto_target_exe" "auto_target_language" "executable_path" "executable_name" }}
{{- if get $config . }}{{ $selected = "true" }}{{ end }}
{{- end }}
{{- range list "instrument" "services" }}
{{- if dig "discovery" . "" $config }}{{ $selected = "true" }}{{ end }}
{{- end }}
{{- if not $selected }}
{{- fail "nothing to trace: set config.open_port (for example 80,8000-8999), config.auto_target_exe, or config.discovery.instrument" }}
{{- end }}
{{- end }}

{{- define "spanwire.checkExport" -}}
{{- $config := .Values.config }}
{{- $traces := default dict $config.otel_traces_export }}
{{- $printer := ne (default "disabled" $config.trace_printer) "disabled" }}
{{- $variable := include "spanwire.envMatches" (list . "^(OTEL_EXPORTER_OTLP_(TRACES_)?ENDPOINT|(OTEL_EBPF|BEYLA)_TRACE_PRINTER)$") }}
{{- $somewhere := or .Values.endpoint $variable $traces.endpoint $traces.common_endpoint $printer }}
{{- if not $somewhere }}
{{- fail "no place for traces: set endpoint (for example http://otel-collector.observability:4317)" }}
{{- end }}
{{- end }}
