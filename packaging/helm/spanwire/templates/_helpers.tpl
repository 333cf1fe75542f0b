{{- define "spanwire.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "spanwire.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "spanwire.name" . }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "spanwire.selectorLabels" -}}
app.kubernetes.io/name: {{ include "spanwire.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "spanwire.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "spanwire.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: agent
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "spanwire.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "spanwire.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "spanwire.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ printf "%s@%s" .repository .digest }}
{{- else }}{{ printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "spanwire.configMapName" -}}
{{- default (include "spanwire.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{/*
Whether the port is on the pod's address rather than the loopback: Prometheus is elsewhere, and so is the kubelet when the pod has a
network of its own.
*/}}
{{- define "spanwire.listensOnPodIP" -}}
{{- if and .Values.port (or .Values.metrics.enabled (not .Values.hostNetwork)) }}true{{ end }}
{{- end }}

{{- define "spanwire.probe" -}}
{{- $root := index . 0 -}}
httpGet:
  path: /healthz
  port: http
  {{- if not (include "spanwire.listensOnPodIP" $root) }}
  # The kubelet is in the node's network, as this pod is.
  host: 127.0.0.1
  {{- end }}
{{ toYaml (index . 1) }}
{{- end }}

{{/* AppArmor has a field from 1.30 on; before, an API server that validates strictly refuses it. */}}
{{- define "spanwire.hasAppArmorField" -}}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}true{{ end }}
{{- end }}

{{- define "spanwire.appArmorAnnotation" -}}
{{- with .Values.securityContext.appArmorProfile }}
{{- if not (include "spanwire.hasAppArmorField" $) }}
{{- $local := printf "localhost/%s" (default "" .localhostProfile) }}
{{- $profiles := dict "Unconfined" "unconfined" "RuntimeDefault" "runtime/default" "Localhost" $local }}
container.apparmor.security.beta.kubernetes.io/spanwire: {{ get $profiles .type }}
{{- end }}
{{- end }}
{{- end }}

{{- define "spanwire.securityContext" -}}
{{- $context := deepCopy .Values.securityContext }}
{{- if eq .Values.preset "privileged" }}
{{- /* The API server refuses a privileged container that may not gain privileges; capabilities would say nothing. */}}
{{- $context = merge (dict "privileged" true) (omit $context "capabilities" "allowPrivilegeEscalation") }}
{{- end }}
{{- if not (include "spanwire.hasAppArmorField" .) }}
{{- $context = omit $context "appArmorProfile" }}
{{- end }}
{{- toYaml $context }}
{{- end }}
